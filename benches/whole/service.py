"""bgfiles as it is run: its settings, its file types, its web and worker processes."""

import http.client
import json
import secrets
import time
from datetime import datetime

from . import env
from .env import BIN, DIR
from .timing import Tree, spread

FORMATS = ("csv", "xlsx", "jsonl", "parquet", "csv.gz", "csv.zst")
JOBS = DIR / "jobs"
# What SQLite keeps as text and numbers is the same there as in PostgreSQL.
TYPED = """
[columns.succeeded]
type = "boolean"
[columns.amount]
type = "decimal"
[columns.created_at]
type = "datetime"
"""
MANY = """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
SELECT login_events.* FROM n CROSS JOIN login_events LIMIT :rows"""
BLOCKS = f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :blocks)
SELECT '{"x" * 1022}' AS block FROM n"""


def settings(database, data=None, **more):
    """The environment of bgfiles over its own database `database`, a URL."""
    given = {
        "DATABASE_URL": database,
        "BGFILES_SECRET_KEY": secrets.token_hex(32),
        "BGFILES_JOBS_DIR": JOBS,
        "BGFILES_STORAGE": f"file://{DIR}/files",
        "BGFILES_MAIL": f"file://{DIR}/mail",
        "BGFILES_LOG": "warn",
        "TMPDIR": env.DIR,
        **more,
    }
    if data:
        kind = "PostgreSQL" if database.startswith("postgres") else "SQLite"
        given["BGFILES_SOURCE_EVENTS"] = data.source(kind)
    return env.environment(**given)


def define_all(data):
    """The file types: all rows, any number of them, ten of them, and a file of any size. Says which
    formats this version knows."""
    known = [form for form in FORMATS if knows(data, form)]
    rows = '[criteria.rows]\ntype = "integer"\nrequired = true\n'
    define("events", "SELECT * FROM login_events ORDER BY id", known, TYPED)
    define("many", MANY, known, rows + TYPED)
    define("tiny", "SELECT * FROM login_events ORDER BY id LIMIT 10", ["xlsx"], TYPED)
    define("blocks", BLOCKS, ["csv"], rows.replace("rows", "blocks"), source="default")
    return known


def knows(data, form):
    env.empty(JOBS)
    define("probe", "SELECT 1 AS one", [form])
    environ = settings(f"sqlite:{data.sqlite}", data)
    try:
        env.output(BIN, "export", "probe", "--format", form, "-o", DIR / "probe.out", environ=environ)
    except env.Failed:
        # Every version knows this one: what failed is something else.
        if form == "csv":
            raise
        return False
    finally:
        (JOBS / "probe.toml").unlink()
    return True


def define(name, query, formats, more="", source="events"):
    text = f'formats = {json.dumps(formats)}\nsource = "{source}"\nmax_rows = 100_000_000\nquery = """\n{query}\n"""\n'
    (JOBS / f"{name}.toml").write_text(text + more)


class Service:
    """A web process over an empty database, a token to call it, and a worker when one is wanted."""

    name = "bgfiles"
    path = "/api/requests"

    def __init__(self, data, database, name="bgfiles", **more):
        self.port = env.free_port()
        address = f"127.0.0.1:{self.port}"
        self.url = data.fresh(database, name)
        more = {"BGFILES_BASE_URL": f"http://{address}", **more}
        self.environ = settings(self.url, data, BGFILES_BIND=address, **more)
        self.run("migrate")
        self.run("create-user", "bench", "--role", "service")
        self.run("create-client", "bench", "--token-ttl", "never")
        token = self.run("create-token", "--user", "bench", "--client", "bench").strip()
        self.headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
        self.body = json.dumps({"file_type": "tiny", "requester": {"id": "amy", "email": "amy@example.org"}})
        self.processes = []

    def __enter__(self):
        web = env.start(BIN, "web", environ=self.environ, log="web")
        self.processes.append(web)
        self.web = Tree(web)
        env.wait_for("bgfiles web", self.ready, web)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            env.stop(process)

    def address(self):
        """Where requests are posted."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def start_worker(self):
        worker = env.start(BIN, "worker", environ=self.environ, log="worker")
        self.processes.append(worker)
        self.worker = Tree(worker)
        # It says nothing when it is ready: its first request does.
        self.wait(self.ask("blocks", blocks=1))
        return worker

    def run(self, *arguments):
        return env.output(BIN, *arguments, environ=self.environ)

    def ready(self):
        try:
            self.call("GET", "/readyz")
        except (OSError, env.Failed):
            return False
        return True

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, self.headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 300:
            raise env.Failed(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)

    def ask(self, file_type, **criteria):
        body = {"file_type": file_type, "criteria": criteria, "notify": False}
        return self.call("POST", self.path, json.dumps(body))["id"]

    def wait(self, request, pause=0.02):
        """The request once it has ended."""
        end = time.monotonic() + 600
        while time.monotonic() < end:
            row = self.call("GET", f"{self.path}/{request}")
            if row["status"] == "finished":
                return row
            if row["status"] == "failed":
                raise env.Failed(f"a request failed: {row['error']}")
            time.sleep(pause)
        raise env.Failed("a request does not end")

    def pick_up(self, count):
        """Milliseconds from a request to the start of its handler on an idle machine: p50, p99."""
        return spread([self.pick_up_once(i) for i in range(count)])

    def pick_up_once(self, i):
        # Not in step with any tick.
        time.sleep(0.05 + 0.0137 * (i % 7))
        row = self.wait(self.ask("tiny"))
        asked, started = (
            datetime.fromisoformat(row[key].replace("Z", "+00:00")) for key in ("requested_at", "started_at")
        )
        return (started - asked).total_seconds() * 1000
