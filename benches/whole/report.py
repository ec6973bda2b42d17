"""docs/BENCHMARKS.md out of the results that there are."""

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
HEAD = """# Benchmarks

Written by `scripts/bench`; do not edit. Whole processes, release build, all sides on one machine over
loopback. *not run*: this side, or this version of bgfiles, was not there to be measured.
"""


def write():
    found = {part: results.read(part) for part in TITLES}
    parts = [section(part, result) for part, result in found.items()]
    text = "\n".join([HEAD, targets(found), *parts, peers(found)])
    (env.ROOT / "docs/BENCHMARKS.md").write_text(text)
    print("written: docs/BENCHMARKS.md")


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
