"""Job queues that only carry jobs: what a queue alone does on the same PostgreSQL."""

import json
import sys

from . import env, install, results
from .env import DIR, PEERS, PYTHON

NOTE = "Jobs that do nothing: no row of a request, no file, no mail. 16 enqueue at once; a lone job from enqueue to its task."
COLUMNS = ["enqueued/s", "worked off/s", "lone p50 ms", "lone p99 ms"]


def run(data, sizes):
    jobs = 10 * sizes.burst
    data.create("queues")
    environ = data.peers(JOBS=jobs, LONE=sizes.lone)
    environ["DSN"] = data.url("queues")
    queues = {
        "procrastinate": lambda: python("procrastinate_jobs.py"),
        "graphile-worker": lambda: node("graphile-worker"),
        "pg-boss": lambda: node("pg-boss"),
    }
    rows = {}
    for name, command in queues.items():
        print(f"  {name}", flush=True)
        rows[name] = figures(environ, command)
    return [results.table(f"Queues alone, {jobs:,} jobs", COLUMNS, rows, NOTE)]


def figures(environ, command):
    """What a program prints; nothing where it does not run, as they are beside the point."""
    try:
        return json.loads(env.output(*command(), environ=environ).strip().splitlines()[-1])
    except env.Failed as why:
        print(f"  left out: {why}", file=sys.stderr, flush=True)
        return [None] * len(COLUMNS)


def python(name):
    return [PYTHON, PEERS / name]


def node(name):
    """The program of a queue of Node's, with its packages."""
    if not install.find("npm"):
        raise env.Failed(f"{name} needs Node")
    folder = DIR / "node"
    folder.mkdir(exist_ok=True)
    for path in [PEERS / "package.json", *PEERS.glob("*.mjs")]:
        (folder / path.name).write_text(path.read_text())
    if not (folder / "node_modules" / name).exists():
        print("installing Node's peers", flush=True)
        env.output("npm", "install", "--no-audit", "--no-fund", "--prefix", folder)
    return ["node", folder / f"{name}.mjs"]
