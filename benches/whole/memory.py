"""Peak memory of making and storing a file, by rows, format, database and store."""

from . import env, results, service, timing
from .data import DATABASES
from .env import BIN, DIR
from .s3 import Store

NOTE = "Peak MiB of `bgfiles process`, which makes one file and stores it. The rows are joined, not stored."


def run(data, sizes):
    known = service.define_all(data)
    columns = [f"{rows:,} rows" for rows in sizes.memory_rows]
    tables = []
    with Store() as store:
        for database in DATABASES:
            for place, settings in {"folder": {}, "S3": store.settings()}.items():
                rows = {form: [None] * len(columns) for form in service.FORMATS}
                for form in known:
                    rows[form] = [peak(data, database, form, n, store, settings) for n in sizes.memory_rows]
                tables.append(results.table(f"{database}, stored in {place}", columns, rows, NOTE))
    return tables


def peak(data, database, form, rows, store, settings):
    store.reset()
    environ = service.settings(data.fresh(database, "bgfiles"), data, **settings)
    env.output(BIN, "migrate", environ=environ)
    asked = ("request", "many", "--criteria", f"rows={rows}", "--format", form, "--no-notify")
    env.output(BIN, *asked, environ=environ)
    name = f"{database} {form} {rows:,}"
    env.empty(DIR / "files")
    usage = timing.once(timing.Command(name, [BIN, "process", "--items", "1"], DIR / "files", environ))
    print(f"  {name:<34} {usage.peak:7.1f} MiB {usage.wall:7.1f} s", flush=True)
    return usage.peak
