"""What is asked of bgfiles behind poolers, on another PostgreSQL, and with a standby to read from."""

import concurrent.futures
import os
import pathlib
import subprocess
import threading
import time

from machine import eventually, listens, run
from service import Service, ask

DATA = "/var/lib/postgresql/how-to"
LOG = "/var/lib/postgresql/how-to.log"
SHARED = "postgres://bgfiles:secret@127.0.0.1:6432/shared"
# Some seconds, so that there is time for a conflict.
SLOW = '''title = "Slow"
formats = ["csv"]
source = "warehouse"
query = "SELECT id, name, pg_sleep(0.0001)::text AS nothing FROM orders ORDER BY id LIMIT 8000"
'''


def psql(sql, at="host=/run/postgresql user=postgres dbname=app"):
    return run("psql", at, "-Atqc", sql).strip()


class Database:
    """A part of a page; the server that it starts from is there before its first step."""

    def __init__(self, part, machine, bgfiles):
        self.part, self.machine = part, machine
        os.environ["PATH"] = f"{machine.extra}/bin:{os.environ['PATH']}"
        pathlib.Path("/run/postgresql").mkdir(exist_ok=True)
        run("chown", "postgres:", "/run/postgresql")
        self.as_postgres("initdb", "-D", DATA, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C")
        self.as_postgres("pg_ctl", "-D", DATA, "-w", "-l", LOG, "-o", "-c fsync=off -c unix_socket_directories=/run/postgresql", "start")
        self.bgfiles = bgfiles

    def as_postgres(self, *command):
        # A server must not hold our pipes.
        with open("/tmp/how-to/postgres", "a+") as out:
            done = subprocess.run(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--", *command], stdout=out, stderr=out)
            if done.returncode:
                out.seek(0)
                raise RuntimeError(f"{command[0]}: {out.read()[-1000:]}")

    def run(self):
        self.service = Service(self.machine, self.bgfiles, database=None, environment={"BGFILES_STORAGE": "file:/var/lib/bgfiles/files"})
        if self.part.page == "standby":
            pathlib.Path("/etc/bgfiles/jobs/slow.toml").write_text(SLOW)
        self.service.start(second=False)
        self.service.command("create-client", "other", "--token-ttl", "never")
        self.service.spawn("cleaner", "clean", "--every", "5m")
        checks = [self.version]
        if self.part.page == "standby":
            checks += [self.read_from_standby, self.no_conflict, self.conflict]
        else:
            checks += [self.round, self.revoked, self.unwarned]
        if "transactions" in self.part.title:
            checks += [self.transactions, self.statements]
        for check in checks:
            yield check.__name__, check()
        if gone := self.machine.ended():
            raise RuntimeError("\n".join(gone))

    def must(self, true, text):
        if not true:
            raise AssertionError(text)

    # --- checks ------------------------------------------------------------------------------
    def version(self):
        pooler = f", {run('pgbouncer', '-V').splitlines()[0]}" if self.part.page == "poolers" else ""
        return f"PostgreSQL {psql('SHOW server_version')}{pooler}"

    def pools(self):
        lines = run("psql", "host=127.0.0.1 port=6432 user=bgfiles dbname=pgbouncer password=secret", "-AqtF,", "--pset", "tuples_only=off",
                    "--pset", "footer=off", "-c", "SHOW POOLS").splitlines()
        names = lines[0].split(",")
        return [row for line in lines[1:] if (row := dict(zip(names, line.split(","))))["database"] == "app"]

    def round(self):
        """Requests of eight callers at once, and their files."""
        waiting, servers, over = [0], [0], threading.Event()

        def look():
            while not over.wait(0.2):
                for row in self.pools():
                    waiting.append(int(row["maxwait"]))
                    servers.append(sum(int(row[name]) for name in ("sv_active", "sv_idle", "sv_used")))

        watcher = threading.Thread(target=look, daemon=True)
        if self.part.page == "poolers":
            watcher.start()
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as callers:
            rows = list(callers.map(lambda n: self.service.file(1000 + n), range(60)))
        over.set()
        self.must(all(row["attempts"] == 1 for row in rows), str([row["attempts"] for row in rows]))
        seen = ""
        if self.part.page == "poolers":
            watcher.join(5)
            self.must(max(waiting) < 2, f"maxwait was {max(waiting)} s")
            seen = f", maxwait {max(waiting)} s, at most {max(servers)} server connections"
        return f"60 requests, 60 files, one attempt each, {time.monotonic() - began:.1f} s{seen}"

    def revoke(self, web="http://127.0.0.1:8000", strict=True):
        """A token that works, so that it is remembered, and is then revoked. Where transactions are pooled, calls
        fail now and then; none may succeed afterwards."""
        # One token for each user and client: another client, so that ours stays.
        token = self.service.command("create-token", "--user", "amy", "--client", "other").splitlines()[-1]
        def call():
            return ask(f"{web}/api/requests", headers=[f"Authorization: Token {token}"]).status

        if not strict:
            eventually(lambda: call() == 200, of="an answer")
        before = [call() for _ in range(3)]
        self.service.command("revoke-token", token[:10])
        after = [call() for _ in range(5)]
        self.must(not strict or before == [200] * 3 and after == [401] * 5, f"{before}, revoked, {after}")
        self.must(200 not in after, f"revoked, and {after}")
        return f"{before}, revoked, {after}"

    def revoked(self):
        return self.revoke()

    def unwarned(self):
        ready = ask("http://127.0.0.1:8000/readyz").json()
        checked = self.service.command("check")
        self.must(ready["ready"] and ready["warnings"] == [] and "pooler" not in checked, f"{ready} {checked}")
        return f"/readyz: {ready['warnings']}"

    def transactions(self):
        """The line of everybody else: what is said of it."""
        shared = {**self.service.environment, "DATABASE_URL": SHARED}
        self.service.spawn("shared", "web", BGFILES_BIND="127.0.0.1:8002", DATABASE_URL=SHARED)
        eventually(lambda: self.service.ready(8002), of="web at 8002")
        said = eventually(lambda: ask("http://127.0.0.1:8002/readyz").json()["warnings"], of="the warning")
        checked = subprocess.run([*self.service.as_user(), self.bgfiles, "check"], env=shared, capture_output=True, text=True)
        self.must("pooler" in checked.stdout + checked.stderr, f"check says nothing: {checked.stdout}{checked.stderr}")
        self.must("pooler" in self.machine.log("shared"), "the log says nothing")
        revoked = self.revoke("http://127.0.0.1:8002", strict=False)
        self.machine.stop("shared")
        return f"{said}; {revoked}"

    def refused(self):
        environment = {**self.service.environment, "BGFILES_BIND": "127.0.0.1:8002", "DATABASE_URL": SHARED}
        done = subprocess.run([*self.service.as_user(), self.bgfiles, "web"], env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.strip().splitlines()[-1]

    def statements(self):
        file = pathlib.Path("/etc/pgbouncer/pgbouncer.ini")
        text = file.read_text()
        file.write_text(text.replace("dbname=app", "dbname=app pool_mode=statement"))
        for name in ("web", "worker", "cleaner"):
            self.machine.stop(name)
        self.machine.restart("pgbouncer")
        eventually(lambda: listens(6432))
        code, said = self.refused()
        self.must(code == 1, f"exit {code}: {said}")
        return f"refused at the start: {said}"

    # --- a standby -----------------------------------------------------------------------------
    def read_from_standby(self):
        psql("CREATE TABLE orders (id bigint PRIMARY KEY, name text NOT NULL); GRANT SELECT ON orders TO reader;"
             "INSERT INTO orders SELECT n, 'order ' || n FROM generate_series(1, 400000) n")
        standby = "host=127.0.0.1 port=5433 user=reader password=secret dbname=app"
        eventually(lambda: psql("SELECT count(*) FROM pg_class WHERE relname = 'orders'", standby) == "1" and psql("SELECT count(*) FROM orders", standby) == "400000")
        self.must(psql("SELECT pg_is_in_recovery()", standby) == "t", "that is no standby")
        row = self.order()
        primary = run("psql", "host=/run/postgresql user=postgres dbname=app", "-qc", "COPY (SELECT id, name FROM orders ORDER BY id) TO STDOUT CSV HEADER")
        body = ask(row["download_url"]).body.decode().removeprefix("\ufeff").replace("\r\n", "\n")
        self.must(body == primary and row["rows"] == 400000, f"{len(body)} characters for {len(primary)}")
        return "400,000 rows, as the primary has them"

    def order(self, meanwhile=None):
        answer = self.service.api("/api/requests", "POST", {"file_type": "slow" if meanwhile else "orders"})
        self.must(answer.status == 202, f"{answer.status} {answer.body}")
        id = answer.json()["id"]
        if meanwhile:
            eventually(lambda: self.service.api(f"/api/requests/{id}").json()["progress"].get("done"), of="progress")
            meanwhile()
        return self.service.finished(id, seconds=300)

    def clean_up(self):
        psql("DELETE FROM orders WHERE id % 2 = 0")
        psql("VACUUM orders")

    def no_conflict(self):
        row = self.order(self.clean_up)
        self.must(row["attempts"] == 1 and row["rows"] == 8000, f"{row['attempts']} attempts, {row['rows']} rows")
        return "rows deleted and vacuumed meanwhile: one attempt"

    def conflict(self):
        """With PostgreSQL's way and a delay of a second the request is cancelled; with the page's settings it ends."""
        file = pathlib.Path("/etc/postgresql/standby.conf")
        text, log = file.read_text(), pathlib.Path("/var/lib/postgresql/standby.log")
        psql("INSERT INTO orders SELECT n, 'order ' || n FROM generate_series(2, 400000, 2) n")
        self.reload(text.replace("_delay = 1h", "_delay = 1s").replace("feedback = on", "feedback = off"))

        def meanwhile():
            self.clean_up()
            eventually(lambda: "due to conflict with recovery" in log.read_text(), of="a conflict")
            self.reload(text)

        row = self.order(meanwhile)
        self.must(row["attempts"] > 1, f"{row['attempts']} attempts")
        return f"delay of 1 s, no feedback: cancelled; with the settings of the page, attempt {row['attempts']} has the file"

    def reload(self, text):
        pathlib.Path("/etc/postgresql/standby.conf").write_text(text)
        self.as_postgres("pg_ctl", "-D", "/var/lib/postgresql/standby", "reload")
        time.sleep(1)
