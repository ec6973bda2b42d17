"""What the figures are to reach. A bound is a number, or another row of the same table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One figure and its bound: at most, or at least where `least` says so."""

    part: str
    # How the table's title begins.
    table: str
    row: str
    column: str
    # A number, or the row that `factor` multiplies.
    bound: object
    factor: float = 1
    least: bool = False


OURS = "bgfiles, PostgreSQL"
DJANGO = "Django, Celery, Redis, XlsxWriter"

NGINX = "nginx secure_link"
STORED = "bgfiles process, file stored"

TARGETS = [
    Target("exports", "xlsx from PostgreSQL", STORED, "wall s", "rust_xlsxwriter, level 1", 0.45),
    Target("exports", "xlsx from PostgreSQL", STORED, "file MB", "rust_xlsxwriter, level 6", 1.1),
    Target("exports", "xlsx from PostgreSQL", STORED, "wall s", "XlsxWriter, constant_memory", 1 / 25),
    Target("exports", "xlsx from PostgreSQL", STORED, "wall s", "DuckDB xlsx", 1 / 6),
    Target("exports", "xlsx from PostgreSQL", STORED, "peak MiB", 64),
    Target("exports", "XLSX of rows at hand", "bgfiles TableWriter", "CPU s / million rows", "jetxl, Arrow", 0.7),
    Target("exports", "csv from PostgreSQL", "bgfiles export", "wall s", "psql \\copy", 1.1),
    Target("exports", "csv from SQLite", "bgfiles export", "wall s", "sqlite3 -csv", 1.3),
    Target("exports", "jsonl from PostgreSQL", "bgfiles export", "wall s", "psql row_to_json", 0.6),
    Target("exports", "parquet from PostgreSQL", "bgfiles export", "wall s", "DuckDB parquet", 0.85),
    Target("exports", "parquet from PostgreSQL", "bgfiles export", "peak MiB", 128),
    Target("queue", "Recording requests", OURS, "requests/s", DJANGO, 5, least=True),
    Target("queue", "A lone export", OURS, "pick-up p50 ms", 5),
    Target("queue", "A lone export", OURS, "pick-up p99 ms", 15),
    Target("queue", "A lone export", "bgfiles, SQLite", "pick-up p50 ms", 10),
    Target("queue", "At rest", OURS, "both %", 0.1),
    Target("queue", "At rest", "bgfiles, SQLite", "both %", 0.1),
    Target("queue", "A lone export", OURS, "mail p50 ms", DJANGO, 0.5),
    Target("queue", "Exports at once", OURS, "exports/s", DJANGO, 10, least=True),
    Target("queue", "Memory of all processes", OURS, "both MiB, idle", 40),
    Target("downloads", "10 KB", "bgfiles, stream", "requests/s", NGINX, 0.8, least=True),
    Target("downloads", "200 MB", "bgfiles, stream", "MB/s", NGINX, 0.75, least=True),
    Target("tokens", "Tokens", "bgfiles verify", "ns each", "Django verify", 0.1),
    Target("tokens", "Tokens", "bgfiles JWT verify", "ns each", "PyJWT verify", 0.1),
]


def judge(target, result):
    """The figure, its bound and whether it is reached; None for what was not run."""
    table = next((t for t in (result or {}).get("tables", []) if t["title"].startswith(target.table)), None)
    figure = cell(table, target.row, target.column)
    bound = cell(table, target.bound, target.column) if isinstance(target.bound, str) else target.bound
    if figure is None or bound is None:
        return figure, bound, None
    bound *= target.factor
    return figure, bound, figure >= bound if target.least else figure <= bound


def cell(table, row, column):
    if not table or row not in table["rows"]:
        return None
    return table["rows"][row][table["columns"].index(column)]
