"""Whole exports of login_events: wall, CPU, memory and size, in turn with what others use."""

import statistics

from . import env, results, service, timing
from .env import BIN, DIR, OUT, PEERS, PYTHON
from .install import find
from .timing import Command

FILES = DIR / "files"
NOTE = (
    "Sides alternate within each round. CPU is the exporting process's own, without the database "
    "server's. `base` is bgfiles export. Slow peers run fewer rounds."
)


def run(data, sizes):
    known = service.define_all(data)
    env.empty(OUT)
    pairs = [(database, form) for database in ("PostgreSQL", "SQLite") for form in service.FORMATS]
    tables = [compare(data, sizes, database, form, form in known) for database, form in pairs]
    return tables + [at_hand(data, sizes)]


def at_hand(data, sizes):
    """XLSX alone: the rows are in memory before the clock runs."""
    out = OUT / "at-hand.xlsx"
    sides = {
        "bgfiles TableWriter": [env.XLSX_AT_HAND, data.peers()["DSN"], out],
        "jetxl, Arrow": [PYTHON, PEERS / "jetxl_export.py", out],
    }
    seen = {name: [] for name in sides}
    for _ in range(sizes.rounds):
        for name, command in sides.items():
            seen[name].append([float(v) for v in env.output(*command, environ=data.peers()).split()])
    millions = data.rows / 1e6
    rows = {
        name: [statistics.median(cpu / millions for cpu, _ in runs), runs[0][1], len(runs)]
        for name, runs in seen.items()
    }
    columns = ["CPU s / million rows", "file MB", "rounds"]
    return results.table(f"XLSX of rows at hand, {data.rows:,} rows", columns, rows, "CPU of all threads, of writing alone.")


def compare(data, sizes, database, form, known):
    sides = (ours(data, database, form) if known else []) + peers(data, database, form)
    print(f"{form} from {database}", flush=True)
    timing.alternate(sides, sizes.rounds, lambda side: whole(side, form, data.rows))
    base = next((side for side in sides if side.name == "bgfiles export"), None)
    rows = {side.name: timing.summary(side, base or Command("", [], OUT, {})) for side in sides}
    if not known:
        rows = {"bgfiles export": [None] * len(timing.COLUMNS), **rows}
    return results.table(f"{form} from {database}, {data.rows:,} rows", timing.COLUMNS, rows, NOTE)


def whole(side, form, rows):
    """Fails unless a side's file has all rows: what is compared is to be comparable."""
    made = side.output
    if made.is_dir():
        made = next(path for path in made.rglob("*") if path.is_file())
    counted = int(env.output(PYTHON, PEERS / "count_rows.py", form, made))
    if counted != rows:
        raise env.Failed(f"{side.name} wrote {counted:,} rows of {rows:,}")


def ours(data, database, form):
    """`export`, and a recorded request worked off into a folder."""
    environ = service.settings(data.fresh(database, "bgfiles"), data)
    env.output(BIN, "migrate", environ=environ)
    out = OUT / f"bgfiles.{form}"

    def ask():
        env.output(BIN, "request", "events", "--format", form, "--no-notify", environ=environ)

    return [
        Command("bgfiles export", [BIN, "export", "events", "--format", form, "-o", out], out, environ),
        Command("bgfiles process, file stored", [BIN, "process", "--items", "1"], FILES, environ, before=ask),
    ]


def peers(data, database, form):
    environ = data.peers()
    out = OUT / f"peer.{form}"

    def python(name, script, *arguments, most=99):
        return Command(name, [PYTHON, PEERS / script, *arguments, out], out, environ, most=most)

    def psql(query, options=""):
        copy = f"\\copy ({query}) TO '{out}' {options}"
        return [find("psql"), "-qX", "-c", copy]

    def duckdb():
        kind = {"PostgreSQL": "postgres", "SQLite": "sqlite"}[database]
        return python(f"DuckDB {form}", "duckdb_export.py", kind, form)

    def rust_xlsxwriter(level):
        return Command(f"rust_xlsxwriter, level {level}", [env.XLSX_PEER, environ["DSN"], out, level], out, environ)

    query = "SELECT * FROM login_events ORDER BY id"
    if database == "SQLite":
        shell = [find("sqlite3"), "-readonly", "-csv", "-header", data.sqlite, query]
        return {
            "csv": [Command("sqlite3 -csv", shell, out, environ, stdout=True)],
            "xlsx": [duckdb()],
            "parquet": [duckdb()],
        }.get(form, [])
    json = "SELECT row_to_json(e) FROM login_events e ORDER BY id"
    return {
        "csv": [Command("psql \\copy", psql(query, "(FORMAT csv, HEADER)"), out, environ)],
        "jsonl": [Command("psql row_to_json", psql(json), out, environ)],
        "parquet": [duckdb(), python("pyarrow", "pyarrow_export.py", most=3)],
        "xlsx": [
            rust_xlsxwriter(1),
            rust_xlsxwriter(6),
            duckdb(),
            python("XlsxWriter, constant_memory", "xlsxwriter_export.py", most=2),
        ],
    }.get(form, [])
