"""A private PostgreSQL and the rows that all sides export, in it and in a SQLite file."""

import os
import pwd
import shutil
import signal

from . import env, install
from .env import DIR, Failed

TABLE = """CREATE TABLE login_events (id bigserial PRIMARY KEY, user_id bigint NULL, username text, ip text,
user_agent text, succeeded bool, country text, amount numeric(12,2), score double precision, created_at timestamptz)"""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "1GB",
    "max_connections": "200",
    "max_wal_size": "4GB",
}
DATABASES = ("PostgreSQL", "SQLite")


class Data:
    """The server while it runs, with `rows` rows loaded."""

    def __init__(self, rows):
        self.rows = rows
        self.events = f"events_{rows}"
        self.sqlite = DIR / f"{self.events}.db"
        self.port = env.free_port()

    def __enter__(self):
        self.start_server()
        self.load()
        return self

    def __exit__(self, *_):
        # Fast: without waiting for who is connected.
        env.stop(self.server, signal.SIGINT)

    def start_server(self):
        binaries, folder, account = install.postgres_binaries(), DIR / "postgres", server_account()
        if not (folder / "PG_VERSION").exists():
            env.empty(folder)
            folder.chmod(0o700)
            if account:
                shutil.chown(folder, *account.values())
            env.output(
                binaries / "initdb", "-D", folder, "-U", "bench", "-A", "trust", "--no-locale", "-E", "UTF8", **account
            )
        options = [part for setting in SETTINGS.items() for part in ("-c", "=".join(setting))]
        self.server = env.start(binaries / "postgres", "-D", folder, "-p", self.port, *options, **account)
        env.wait_for("PostgreSQL", self.answers, self.server)

    def answers(self):
        try:
            self.psql("SELECT 1", "postgres")
        except Failed:
            return False
        return True

    def url(self, database):
        return f"postgres://bench@127.0.0.1:{self.port}/{database}"

    def psql(self, sql, database):
        command = ("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", self.url(database))
        return env.output(*command, input=sql).strip()

    def load(self):
        there = self.psql(f"SELECT 1 FROM pg_database WHERE datname = '{self.events}'", "postgres")
        if there and self.sqlite.exists():
            return
        print(f"making {self.rows:,} rows", flush=True)
        csv, draft = DIR / "events.csv", DIR / "events.db.part"
        draft.unlink(missing_ok=True)
        env.output(env.PYTHON, env.PEERS / "login_events.py", self.rows, csv, draft)
        self.create("loading")
        self.psql(f"{TABLE};\n\\copy login_events FROM '{csv}' CSV\n", "loading")
        self.psql("VACUUM (ANALYZE, FREEZE) login_events", "loading")
        self.psql(f"DROP DATABASE IF EXISTS {self.events}", "postgres")
        self.psql(f"ALTER DATABASE loading RENAME TO {self.events}; CHECKPOINT", "postgres")
        draft.rename(self.sqlite)
        csv.unlink()

    def create(self, database):
        self.psql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)", "postgres")
        self.psql(f"CREATE DATABASE {database}", "postgres")

    def source(self, database):
        """The URL of the rows, for bgfiles."""
        return self.url(self.events) if database == "PostgreSQL" else f"sqlite:{self.sqlite}"

    def fresh(self, database, name):
        """The URL of an empty database for bgfiles's own tables."""
        if database == "PostgreSQL":
            self.create(name)
            return self.url(name)
        path = DIR / f"{name}.db"
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        return f"sqlite:{path}"

    def peers(self, **more):
        """The environment of peers: where the rows are."""
        server = {"PGHOST": "127.0.0.1", "PGPORT": self.port, "PGUSER": "bench", "PGDATABASE": self.events}
        return env.environment(DSN=self.url(self.events), SQLITE=self.sqlite, **server, **more)


def server_account():
    """PostgreSQL refuses to run as root: whom to run it as, in the words of subprocess."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        raise Failed("root cannot run PostgreSQL, and there is no user postgres to run it as") from None
    if any(not folder.stat().st_mode & 0o001 for folder in [DIR, *DIR.parents]):
        raise Failed("the user postgres cannot reach target/bench: chmod o+x the folders above it")
    return {"user": account.pw_uid, "group": account.pw_gid}
