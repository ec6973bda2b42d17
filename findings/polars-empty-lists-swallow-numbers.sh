#!/usr/bin/env bash
# polars 2.1.0 reads JSON lines whose lists are empty at first, and turns the numbers of later lists into nulls.
#
# read_ndjson takes the types of columns from the first 100 lines. If all lists there are empty, the column is a
# list of nulls. A list of two numbers in line 101 becomes a list of two nulls. Its length is right, its values
# are gone, and there is neither an error nor a warning. Text and booleans in lists are lost the same way.
#
# The surprise is the silence. A sample can miss a type, and read_ndjson says so when the types are others: it
# refuses 100 nulls and then a number, 100 lists of whole numbers and then one with 1.5, and 100 empty lists and
# then a list of lists. read_json refuses the very same rows. pyarrow 26.0.1 reads the numbers. So a table that
# write_ndjson wrote does not come back as it was.
#
# Needs python3.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv env
env/bin/pip --quiet --disable-pip-version-check install polars==2.1.0 pyarrow==26.0.1

cat >read.py <<'PYTHON'
import io
import sys
import warnings

import polars
import polars.exceptions
import pyarrow
import pyarrow.json

warnings.simplefilter("error")


def lines(count, before, last):
    return "".join(f'{{"n":{value}}}\n' for value in [before] * count + [last]).encode()


def as_array(data):
    return b"[" + b",".join(data.split()) + b"]"


def last(read, data):
    """Gives the last value, or what the refusal is called."""
    try:
        value = read(io.BytesIO(data))["n"][-1]
    except polars.exceptions.PolarsError as error:
        return type(error).__name__
    if isinstance(value, pyarrow.Scalar):
        return value.as_py()
    return value.to_list() if isinstance(value, polars.Series) else value


written = io.BytesIO()
table = polars.DataFrame({"n": [[]] * 100 + [[7, 8]]}, schema={"n": polars.List(polars.Int64)})
table.write_ndjson(written)
assert written.getvalue() == lines(100, "[]", "[7,8]")

lost = lines(100, "[]", "[7,8]")
seen = [
    ("99 empty lists, then [7,8]: read_ndjson", polars.read_ndjson, lines(99, "[]", "[7,8]"), [7, 8]),
    ("100 empty lists, then [7,8]: read_ndjson", polars.read_ndjson, lost, [None, None]),
    ("                             read_json", polars.read_json, as_array(lost), "ComputeError"),
    ("                             pyarrow", pyarrow.json.read_json, lost, [7, 8]),
    ('100 empty lists, then ["x"]: read_ndjson', polars.read_ndjson, lines(100, "[]", '["x"]'), [None]),
    ("100 empty lists, then [true]: read_ndjson", polars.read_ndjson, lines(100, "[]", "[true]"), [None]),
    ("100 empty lists, then [[1]]: read_ndjson", polars.read_ndjson, lines(100, "[]", "[[1]]"), "ComputeError"),
    ("100 nulls, then 7: read_ndjson", polars.read_ndjson, lines(100, "null", "7"), "ComputeError"),
    ("100 times [1], then [1.5]: read_ndjson", polars.read_ndjson, lines(100, "[1]", "[1.5]"), "ComputeError"),
]
print("polars", polars.__version__, "| pyarrow", pyarrow.__version__, "| Python", sys.version.split()[0])
changed = False
for label, read, data, expected in seen:
    found = last(read, data)
    print(f"{label} gives {found}")
    changed |= found != expected

back = polars.read_ndjson(io.BytesIO(written.getvalue()))
print("written and read again:", table.schema, "becomes", back.schema, "| values that are no null:", back["n"].explode().count())
changed |= back.schema != {"n": polars.List(polars.Null)} or back["n"].explode().count() != 0
sys.exit("The behaviour has changed." if changed else 0)
PYTHON
env/bin/python read.py
