"""jetxl_export.py OUT: from a table of Arrow that is at hand; prints the CPU seconds of writing alone."""

import os
import sys
import time

import jetxl
import pyarrow as pa

from rows import COLUMNS, rows

columns = [list(column) for column in zip(*rows())]
# As numbers and as text, as a sheet has them.
columns[3] = [str(ip) for ip in columns[3]]
columns[7] = [float(amount) for amount in columns[7]]
columns[9] = [at.replace(tzinfo=None) for at in columns[9]]
table = pa.table({name: pa.array(column) for name, column in zip(COLUMNS, columns)})
before = time.process_time()
jetxl.write_sheet_arrow(table, sys.argv[1])
print(time.process_time() - before, os.path.getsize(sys.argv[1]) / 1e6)
