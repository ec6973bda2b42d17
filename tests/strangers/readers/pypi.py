"""Reads XLSX files with the programs from PyPI, each used as its users use it.

    python pypi.py READER[,READER…] FILE…

Prints one line of JSON for each reader and file. What a reader itself prints goes to stderr.
"""
import csv
import datetime
import html.parser
import importlib.metadata
import io
import json
import logging
import math
import os
import re
import sys
import warnings
import zipfile

warnings.simplefilter("ignore")
logging.disable()


def cell(value):
    """A value of Python as a cell of the answer."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, datetime.datetime):  # and pandas' Timestamp
        return None if value != value else {"date": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()}
    if isinstance(value, datetime.time):
        return {"time": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"duration": value.total_seconds()}
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    return {"other": str(value)}


def blank(value):
    return None if value == "" else value


def sheet_names(file):
    """For readers that cannot tell the names."""
    with zipfile.ZipFile(file) as package:
        book = package.read("xl/workbook.xml").decode()
    return [html.unescape(name) for name in re.findall(r'<sheet\b[^>]*?\bname="([^"]*)"', book)]


def openpyxl(file, read_only=False):
    import openpyxl

    book = openpyxl.load_workbook(file, read_only=read_only)
    try:
        return [
            {"name": sheet.title, "rows": [[cell(v) for v in row] for row in sheet.iter_rows(values_only=True)]}
            for sheet in book.worksheets
        ]
    finally:
        book.close()


def openpyxl_read_only(file):
    return openpyxl(file, read_only=True)


def pandas(file, engine="openpyxl"):
    import pandas

    # dtype=object keeps texts of digits as texts; else pandas makes numbers of them.
    frames = pandas.read_excel(
        file, sheet_name=None, header=None, dtype=object, keep_default_na=False, na_values=[""], engine=engine
    )
    return [
        {"name": name, "rows": [[cell(v) for v in row] for row in frame.itertuples(index=False, name=None)]}
        for name, frame in frames.items()
    ]


def pandas_calamine(file):
    return pandas(file, engine="calamine")


def python_calamine(file):
    from python_calamine import CalamineWorkbook

    with CalamineWorkbook.from_path(file) as book:
        return [
            {
                "name": name,
                "rows": [
                    [blank(cell(v)) for v in row]
                    for row in book.get_sheet_by_name(name).to_python(skip_empty_area=False)
                ],
            }
            for name in book.sheet_names
        ]


def polars(file):
    import polars

    frames = polars.read_excel(
        file, sheet_id=0, engine="calamine", infer_schema_length=None,
        drop_empty_rows=False, drop_empty_cols=False, raise_if_empty=False,
    )
    sheets = []
    for name, frame in frames.items():
        header = [None if column.startswith("__UNNAMED__") else column for column in frame.columns]
        rows = [[cell(v) for v in row] for row in frame.iter_rows()]
        # A column of several types is one of texts.
        texts = [i for i, kind in enumerate(frame.dtypes) if kind == polars.String]
        sheets.append({"name": name, "rows": [header] + rows if header else rows, "text": texts})
    return sheets


def xlsx2csv(file):
    import xlsx2csv

    # Without these it shows times without their seconds, and floats with six decimals.
    book = xlsx2csv.Xlsx2csv(file, outputencoding="utf-8", timeformat="%H:%M:%S", scifloat=True)
    sheets = []
    for number, name in enumerate(sheet_names(file), 1):
        out = io.StringIO()
        book.convert(out, sheetid=number)
        rows = csv.reader(io.StringIO(out.getvalue(), newline=""))
        sheets.append({"name": name, "rows": [[blank(v) for v in row] for row in rows]})
    return sheets


def pylightxl(file):
    import pylightxl

    book = pylightxl.readxl(fn=file)
    return [
        {"name": name, "rows": [[blank(cell(v)) for v in row] for row in book.ws(ws=name).rows]}
        for name in book.ws_names
    ]


def duckdb_connection():
    import duckdb
    import duckdb_extension_excel

    home = os.path.dirname(duckdb_extension_excel.__file__)
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute(f"LOAD '{home}/extensions/v{duckdb.__version__}/excel.duckdb_extension'")
    return connection


def duckdb(file):
    """A type for each column, taken from its first row below the header."""
    connection = duckdb_connection()
    sheets = []
    for name in sheet_names(file):
        result = connection.execute(
            "FROM read_xlsx(?, sheet = ?, header = true, stop_at_empty = false, empty_as_varchar = true)", [file, name]
        )
        columns = result.description
        rows = [[cell(v) for v in row] for row in result.fetchall()]
        texts = [i for i, column in enumerate(columns) if str(column[1]) == "VARCHAR"]
        sheets.append({"name": name, "rows": [[column[0] for column in columns]] + rows, "text": texts})
    return sheets


def duckdb_varchar(file):
    connection = duckdb_connection()
    return [
        {
            "name": name,
            "rows": connection.execute(
                "FROM read_xlsx(?, sheet = ?, header = false, stop_at_empty = false, all_varchar = true)", [file, name]
            ).fetchall(),
        }
        for name in sheet_names(file)
    ]


class Tables(html.parser.HTMLParser):
    """The tables of Tika's XHTML: a heading with the sheet's name, then its rows."""

    def __init__(self):
        super().__init__()
        self.sheets, self.text = [], None

    def handle_starttag(self, tag, attrs):
        if tag == "tr" and self.sheets:
            self.sheets[-1]["rows"].append([])
        elif tag in ("h1", "td"):
            self.text = ""

    def handle_endtag(self, tag):
        if tag == "h1":
            self.sheets.append({"name": self.text, "rows": []})
        elif tag == "td" and self.sheets and self.sheets[-1]["rows"]:
            self.sheets[-1]["rows"][-1].append(blank(self.text))
        if tag in ("h1", "td"):
            self.text = None

    def handle_startendtag(self, tag, attrs):
        if tag == "td":
            self.sheets[-1]["rows"][-1].append(None)

    def handle_data(self, data):
        if self.text is not None:
            self.text += data


def extractous(file):
    import extractous

    extractor = extractous.Extractor().set_xml_output(True).set_extract_string_max_length(2**31 - 1)
    tables = Tables()
    tables.feed(extractor.extract_file_to_string(file)[0])
    tables.close()
    return tables.sheets


def stream_unzip(file):
    """Reads the ZIP from front to back, as from a pipe; gives no cells."""
    import stream_unzip

    def chunks():
        with open(file, "rb") as package:
            while chunk := package.read(65536):
                yield chunk

    count = 0
    for _name, _size, contents in stream_unzip.stream_unzip(chunks()):
        count += 1
        for _ in contents:
            pass
    with zipfile.ZipFile(file) as package:
        members = len(package.infolist())
    if count != members:
        raise ValueError(f"{count} of {members} members")


def openxml_audit(file):
    """Checks every part against Excel's own schemas and rules; gives no cells."""
    import openxml_audit

    errors = openxml_audit.OpenXmlValidator().validate(file).errors
    errors = [e for e in errors if e.severity != openxml_audit.ValidationSeverity.WARNING]
    if errors:
        raise ValueError("; ".join(f"{e.part_uri}: {e.description}" for e in errors[:3]) + f" ({len(errors)} in all)")


TEXT = {"text": True}
READERS = {
    "openpyxl": ("openpyxl", {}, openpyxl),
    "openpyxl-read-only": ("openpyxl", {}, openpyxl_read_only),
    "pandas": ("pandas", {}, pandas),
    "pandas-calamine": ("pandas", {}, pandas_calamine),
    "python-calamine": ("python-calamine", {}, python_calamine),
    "polars": ("polars", {}, polars),
    "xlsx2csv": ("xlsx2csv", TEXT, xlsx2csv),
    "pylightxl": ("pylightxl", TEXT, pylightxl),  # dates, that is
    "duckdb": ("duckdb", {}, duckdb),
    "duckdb-varchar": ("duckdb", TEXT, duckdb_varchar),
    "extractous": ("extractous", TEXT, extractous),
    "stream-unzip": ("stream-unzip", {}, stream_unzip),
    "openxml-audit": ("openxml-audit", {}, openxml_audit),
}


def main():
    names, *files = sys.argv[1:]
    # Readers, and native code in them, may print; only answers go to stdout.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in names.split(","):
        distribution, extra, read = READERS[name]
        for file in files:
            answer = {"reader": name, "version": importlib.metadata.version(distribution), "file": file, **extra}
            try:
                answer["sheets"] = read(file)
            except BaseException as error:  # a panic of Rust code is no Exception
                answer["error"] = f"{type(error).__name__}: {error}"
            print(json.dumps(answer), file=out, flush=True)


main()
