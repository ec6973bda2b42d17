"""The stack that people build by hand: benches/peers/exports_site on gunicorn, Celery and Redis."""

import json

from . import env
from .env import DIR, PEERS, PYTHON
from .timing import Tree

BIN = PYTHON.parent


class Site:
    """gunicorn over an empty table, with `files` to download, and a worker when one is wanted."""

    name = "Django, Celery, Redis, XlsxWriter"
    path = "/exports"
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"email": "a@example.org", "criteria": {"rows": 10}})

    def __init__(self, data, smtp_port=25, files=()):
        self.port, self.redis_port = env.free_port(), env.free_port()
        self.environ = data.peers(
            PYTHONPATH=PEERS,
            DJANGO_SETTINGS_MODULE="exports_site.settings",
            REDIS_PORT=self.redis_port,
            SMTP_PORT=smtp_port,
            EXPORTS=env.empty(DIR / "django"),
        )
        self.processes = []
        self.links = json.loads(env.output(PYTHON, "-m", "exports_site.prepare", *files, environ=self.environ))

    def __enter__(self):
        redis = ("redis-server", "--port", self.redis_port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self.start("redis", self.redis_port, *redis)
        bind = f"127.0.0.1:{self.port}"
        gunicorn = (BIN / "gunicorn", "-w", "2", "-b", bind, "--log-level", "error", "exports_site.wsgi")
        self.web = Tree(self.start("gunicorn", self.port, *gunicorn))
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            env.stop(process)

    def start(self, name, port, *command):
        process = env.start(*command, environ=self.environ, log=name)
        self.processes.append(process)
        env.wait_for(name, lambda: env.listens(port), process)
        return process

    def address(self):
        """Where requests are posted."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def start_worker(self):
        """As many processes as bgfiles makes files at once. What waits from before is forgotten."""
        env.output("redis-cli", "-p", self.redis_port, "flushall")
        options = ("-c", "2", "-l", "WARNING", "--without-gossip", "--without-mingle")
        worker = env.start(
            BIN / "celery", "-A", "exports_site.worker", "worker", *options, environ=self.environ, log="celery"
        )
        self.processes.append(worker)
        self.worker = Tree(worker)
        ping = (BIN / "celery", "-A", "exports_site.worker", "inspect", "ping", "-t", "1")
        env.wait_for("celery", lambda: answers(ping, self.environ), worker)

    def pick_up(self, count):
        """It does not say when it began."""
        return [None, None]


def answers(ping, environ):
    try:
        return "pong" in env.output(*ping, environ=environ)
    except env.Failed:
        return False
