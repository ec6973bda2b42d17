"""Writes docs/src/development/benchmarks.md from the results in docs/benchmarks."""

from . import env, results
from .targets import TARGETS, judge

TITLES = {
    "exports": "Exports",
    "memory": "Memory",
    "queue": "Queue",
    "flat": "Queue with many rows",
    "downloads": "Downloads",
    "tokens": "Tokens",
}
PAGE = env.ROOT / "docs/src/development/benchmarks.md"
HEAD = """# Benchmarks

Written by `scripts/bench`; do not edit. Whole processes, release build, all sides on one machine over
loopback. *not run*: this side, or this version of bgfiles, was not there to be measured.

To measure anew, on a quiet machine:

```sh
cargo build --release --bins --examples
cargo bench --bench tokens
scripts/bench
```

In full this takes about an hour. `scripts/bench quick` is all of it with little data, in a few minutes. Names
pick parts: `exports`, `memory`, `queue`, `flat` (a long history and a long queue), `downloads`, `tokens` (its
own side is that of `cargo bench --bench tokens`). `scripts/bench report` writes this page from the results in
`docs/benchmarks`. What bgfiles is compared with is installed (as root on Debian, from PyPI, and from npm
where that is there) and kept with data below `target/bench`. `cargo bench --bench encoders` measures encoding
alone.

Parts were measured on different days and machines, up to two times apart in speed. What stands in one table
was measured together.
"""
# Two benchmarks of cargo's whose figures are kept here: they are run by hand.
BY_HAND = """## By hand

`cargo bench --bench policy` (SQLite; with `-- postgres://…` an empty PostgreSQL) measures a small route with and
without `require_token`: 16 connections, client and server on the same two cores. Requests per second, and the share
of the plain route:

| | SQLite | PostgreSQL |
| --- | ---: | ---: |
| plain | 31,000 | 37,000 |
| refused: a forged token, no database involved | 20,300 (65 %) | 23,100 (62 %) |
| admitted and counted, a token for each connection | 1,310 (4.2 %) | 1,770 (4.8 %) |
| admitted, counted and logged, a token for each connection | 680 (2.2 %) | 1,020 (2.7 %) |
| admitted, counted and logged, all on one token | 660 (2.1 %) | 700 (1.9 %) |

Verifying a JWT takes microseconds (see Tokens). The rest is the database: a use is on disk before the handler
runs, one commit, and its status in the log is another.

`cargo bench --bench auth` (likewise) measures `GET /api/requests/{id}`. Requests per second, and the share of the
first line:

| | SQLite | PostgreSQL |
| --- | ---: | ---: |
| caller known in advance | 14,300 | 7,800 |
| token, kept in memory | 14,700 (103 %) | 8,100 (103 %) |
| token, looked up each time | 10,900 (76 %) | 4,800 (61 %) |
| token kept in memory, client with a rate | 14,100 (98 %) | 4,800 (61 %) |

A refused login takes as long for a wrong password (13.5 ms on PostgreSQL) as for an unknown name (12.9 ms) and for a
user without a password (13.7 ms). Revoking all of a user's tokens, with two web processes that have to hear of it,
takes 0.5 ms on SQLite and 1.0 ms on PostgreSQL.
"""


def write():
    found = {part: results.read(part) for part in TITLES}
    parts = [section(part, result) for part, result in found.items()]
    text = "\n".join([HEAD, targets(found), *parts, BY_HAND, peers(found)])
    PAGE.write_text(text)
    print(f"written: {PAGE.relative_to(env.ROOT)}")


def targets(found):
    rows = []
    for target in TARGETS:
        figure, bound, reached = judge(target, found[target.part])
        word = {True: "reached", False: "**not reached**", None: "not run"}[reached]
        limit = f"{'≥' if target.least else '≤'} {number(bound)}"
        if isinstance(target.bound, str):
            factor = f"{target.factor:.3g} × " if target.factor != 1 else ""
            limit += f" ({factor}{target.bound})"
        rows.append([f"{target.table}: {target.row}, {target.column}", number(figure), limit, word])
    return "## Targets\n\n" + markdown(["figure", "measured", "target", ""], rows)


def section(part, result):
    title = f"## {TITLES[part]}\n\n"
    if not result:
        return f"{title}Not run.\n"
    machine, load = result["machine"], result["load"]
    state = (
        f"`{result['command']}`, {result['date']}, bgfiles {result['versions']['bgfiles']} at "
        f"{result['versions']['commit']}. {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gib']} GiB; load before {words(load['before'])}, after {words(load['after'])}.\n\n"
    )
    notes, tables = set(), []
    for table in result["tables"]:
        # The same words once.
        note = "" if table["note"] in notes else table["note"] + "\n\n"
        notes.add(table["note"])
        rows = [[name, *map(number, row)] for name, row in table["rows"].items()]
        tables.append(f"### {table['title']}\n\n{note}{markdown(['', *table['columns']], rows)}")
    return title + state + "\n".join(tables)


def words(values):
    return ", ".join(f"{value:.2f}" for value in values)


def peers(found):
    newest = max(filter(None, found.values()), key=lambda result: result["date"], default=None)
    if not newest:
        return ""
    rows = [[name, version] for name, version in newest["versions"].items() if name not in ("bgfiles", "commit")]
    return "## Versions of the others\n\n" + markdown(["", "version"], rows)


def markdown(columns, rows):
    align = ["---"] + ["---:"] * (len(columns) - 1)
    lines = [columns, align, *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def number(value):
    if value is None:
        return "not run"
    if value == int(value):
        return f"{int(value):,}"
    digits = next((digits for limit, digits in ((100, 0), (10, 1), (1, 2)) if abs(value) >= limit), 3)
    return f"{value:,.{digits}f}"
