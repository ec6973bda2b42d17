#!/usr/bin/env bash
# SQLite 3.53.4 obeys a COLLATE on the value of an IN list, but only while the list has one value.
#
# The table has 'a', 'A', 'b' and 'B'. "x IN (?1 COLLATE NOCASE)" with A finds 'a' and 'A'. One more value in the
# list, "x IN (?1 COLLATE NOCASE, ?2 COLLATE NOCASE)" with A and B, and 'a' is no longer found. Even the same value
# a second time has this effect. There is no error. SQLite turns a list of one into "x = ?1 COLLATE NOCASE", where
# a COLLATE on the right decides how the column compares (and keeps the index on the column from use). A longer
# list goes by the collation of the left side alone.
#
# The surprise is that a longer list finds less: IN with more values should find more rows, never fewer. A test
# with one value passes.
#
# SQLite 3.54.1 goes by the left side for one value, too. So the same query finds fewer rows after an update. Still
# "x IN (a)" is then no other way to write "x = a", and pairs differ from both: they obey the COLLATE.
#
# A COLLATE on the left, "x COLLATE NOCASE IN (?1, ?2)", works for one value and for two, in both versions.
#
# Needs python3.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cat >compare.py <<'PYTHON'
import sys

import apsw

base = apsw.Connection(":memory:")
base.execute("CREATE TABLE t (x TEXT)")
base.execute("CREATE INDEX t_x ON t (x)")
base.execute("INSERT INTO t VALUES ('a'), ('A'), ('b'), ('B')")

# The package has the version of its SQLite, and one number more.
one_value = {"3.53.4": ("A a", "SCAN"), "3.54.1": ("A", "SEARCH")}[sys.argv[1].rpartition(".")[0]]
seen = [
    # condition, parameters, rows found, first word of the plan
    ("x IN (?1 COLLATE NOCASE)", "A", one_value),
    ("x IN (?1 COLLATE NOCASE, ?1 COLLATE NOCASE)", "A", ("A", "SEARCH")),
    ("x IN (?1 COLLATE NOCASE, ?2 COLLATE NOCASE)", "AB", ("A B", "SEARCH")),
    ("x COLLATE NOCASE IN (?1)", "A", ("A a", "SCAN")),
    ("x COLLATE NOCASE IN (?1, ?2)", "AB", ("A B a b", "SCAN")),
    ("x = ?1", "A", ("A", "SEARCH")),
    ("x = (?1 COLLATE NOCASE)", "A", ("A a", "SCAN")),
    ("(x, 1) IN ((?1 COLLATE NOCASE, 1))", "A", ("A a", "SCAN")),
]
print("SQLite", apsw.sqlite_lib_version(), "| apsw", apsw.apsw_version())
changed = apsw.apsw_version() != sys.argv[1]
for condition, parameters, expected in seen:
    query = f"SELECT x FROM t WHERE {condition}"
    rows = " ".join(sorted(value for (value,) in base.execute(query, tuple(parameters))))
    way = base.execute(f"EXPLAIN QUERY PLAN {query}", tuple(parameters)).fetchone()[3].split()[0]
    print(f"    {condition:44} {' and '.join(parameters):8} finds {rows:8} by {way}")
    changed |= (rows, way) != expected
sys.exit("The behaviour has changed." if changed else 0)
PYTHON

for version in 3.53.4.0 3.54.1.0; do
    python3 -m venv "env-$version"
    "env-$version/bin/pip" --quiet --disable-pip-version-check install "apsw==$version"
    "env-$version/bin/python" compare.py "$version"
done
