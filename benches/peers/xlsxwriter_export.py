"""xlsxwriter_export.py OUT: in constant memory, by the typed writers (the fastest documented way)."""

import sys

import xlsxwriter

from rows import COLUMNS, rows

book = xlsxwriter.Workbook(sys.argv[1], {"constant_memory": True, "remove_timezone": True})
sheet = book.add_worksheet()
for column, name in enumerate(COLUMNS):
    sheet.write(0, column, name)
date = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
number, text = sheet.write_number, sheet.write_string
for r, row in enumerate(rows(), 1):
    number(r, 0, row[0])
    if row[1] is not None:
        number(r, 1, row[1])
    text(r, 2, row[2])
    text(r, 3, row[3])
    text(r, 4, row[4])
    sheet.write_boolean(r, 5, row[5])
    text(r, 6, row[6])
    number(r, 7, row[7])
    number(r, 8, row[8])
    sheet.write_datetime(r, 9, row[9], date)
book.close()
