"""pyarrow_export.py OUT: Parquet in row groups of 100,000."""

import sys
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from rows import rows

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("user_id", pa.int64()),
        ("username", pa.string()),
        ("ip", pa.string()),
        ("user_agent", pa.string()),
        ("succeeded", pa.bool_()),
        ("country", pa.string()),
        ("amount", pa.decimal128(12, 2)),
        ("score", pa.float64()),
        ("created_at", pa.timestamp("us", "UTC")),
    ]
)

source = rows()
with pq.ParquetWriter(sys.argv[1], SCHEMA) as writer:
    while batch := list(islice(source, 100_000)):
        columns = [pa.array(values, field.type) for values, field in zip(zip(*batch), SCHEMA)]
        writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
