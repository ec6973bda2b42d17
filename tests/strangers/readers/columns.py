"""Reads .jsonl and .parquet files with pyarrow, polars, pandas and DuckDB.

    python columns.py FILE…

Prints one line of JSON for each file and reader: {"reader", "version", "file", "columns": {NAME: TYPE}, "rows"},
or "error". Values that JSON has no type for come as {TYPE: TEXT}, so that what is a number stays one.
"""
import datetime
import decimal
import json
import math
import sys


def cell(value):
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, datetime.datetime):
        return {"moment": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()}
    if isinstance(value, datetime.time):
        return {"time": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"duration": value.total_seconds()}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"object": {name: cell(inner) for name, inner in value.items()}}
    if isinstance(value, (list, tuple)):
        return [cell(inner) for inner in value]
    return {type(value).__name__: str(value)}


def pyarrow(file, json_lines):
    import pyarrow
    import pyarrow.json
    import pyarrow.parquet

    table = pyarrow.json.read_json(file) if json_lines else pyarrow.parquet.read_table(file)
    columns = {field.name: str(field.type) for field in table.schema}
    return pyarrow.__version__, columns, list(zip(*[column.to_pylist() for column in table.columns]))


def polars(file, json_lines):
    import polars

    frame = polars.read_ndjson(file) if json_lines else polars.read_parquet(file)
    return polars.__version__, {name: str(kind) for name, kind in frame.schema.items()}, frame.rows()


def pandas(file, json_lines):
    import pandas

    frame = pandas.read_json(file, lines=True) if json_lines else pandas.read_parquet(file)
    columns = {str(name): str(kind) for name, kind in frame.dtypes.items()}
    # Its own kinds of "nothing" as nothing; its whole numbers as those of Python.
    plain = frame.astype(object).where(frame.notna(), None)
    rows = [[value.item() if hasattr(value, "item") else value for value in row]
            for row in plain.itertuples(index=False, name=None)]
    return pandas.__version__, columns, rows


def duckdb(file, json_lines):
    import duckdb

    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    read = "read_json(?, format = 'newline_delimited')" if json_lines else "read_parquet(?)"
    columns = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE FROM {read}", [file]).fetchall()}
    return duckdb.__version__, columns, connection.execute(f"FROM {read}", [file]).fetchall()


def main():
    for file in sys.argv[1:]:
        for read in (pyarrow, polars, pandas, duckdb):
            answer = {"reader": read.__name__, "file": file}
            try:
                version, columns, rows = read(file, not file.endswith(".parquet"))
                answer |= {"version": version, "columns": columns, "rows": [[cell(value) for value in row] for row in rows]}
            except BaseException as error:  # a panic of Rust code is no Exception
                answer["error"] = f"{type(error).__name__}: {error}"
            print(json.dumps(answer), flush=True)


main()
