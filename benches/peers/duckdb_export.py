"""duckdb_export.py postgres|sqlite parquet|xlsx OUT: one COPY, with the extensions that PyPI carries."""

import gzip
import os
import sys
import tempfile
from pathlib import Path

import duckdb

source, form, out = sys.argv[1:]
db = duckdb.connect(config={"threads": "2", "autoinstall_known_extensions": "false"})


def load(name, folder):
    packages = Path(duckdb.__file__).parent.parent
    found = next(packages.glob(f"**/{name}.duckdb_extension*"))
    if found.suffix == ".gz":
        unpacked = Path(folder, found.stem)
        unpacked.write_bytes(gzip.decompress(found.read_bytes()))
        found = unpacked
    db.execute(f"LOAD '{found}'")


with tempfile.TemporaryDirectory() as folder:
    load(f"{source}_scanner", folder)
    if form == "xlsx":
        load("excel", folder)
    if source == "postgres":
        db.execute(f"ATTACH '{os.environ['DSN']}' AS s (TYPE postgres, READ_ONLY)")
        table = "s.public.login_events"
    else:
        db.execute(f"ATTACH '{os.environ['SQLITE']}' AS s (TYPE sqlite, READ_ONLY)")
        table = "s.login_events"
    options = {"parquet": "FORMAT parquet", "xlsx": "FORMAT xlsx, HEADER true, SHEET_ROW_LIMIT 1048576"}
    # Excel has no zones.
    zoned = form == "xlsx" and source == "postgres"
    columns = "* REPLACE (created_at::timestamp AS created_at)" if zoned else "*"
    db.execute(f"COPY (SELECT {columns} FROM {table} ORDER BY id) TO '{out}' ({options[form]})")
