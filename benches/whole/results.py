"""What a part measured, with the state of the machine, as docs/benchmarks/PART.json."""

import json
import os
import re
import subprocess
import time

from . import env, install


def table(title, columns, rows, note=""):
    """`rows` is a dictionary: name to a list of numbers, None for what was not run."""
    return {"title": title, "columns": columns, "rows": rows, "note": note}


def record(part, sizes, measure):
    before = load()
    tables = measure()
    result = {
        "part": part,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "sizes": sizes.name,
        "command": f"scripts/bench {'quick ' if sizes.name == 'quick' else ''}{part}",
        "machine": machine(),
        "load": {"before": before, "after": load()},
        "versions": versions(),
        "tables": tables,
    }
    env.RESULTS.mkdir(parents=True, exist_ok=True)
    (env.RESULTS / f"{part}.json").write_text(json.dumps(result, indent=1))


def read(part):
    path = env.RESULTS / f"{part}.json"
    return json.loads(path.read_text()) if path.exists() else None


def load():
    return [round(value, 2) for value in os.getloadavg()]


def machine():
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    memory = re.search(r"MemTotal:\s*(\d+)", open("/proc/meminfo").read())
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model.group(1) if model else "unknown",
        "memory_gib": round(int(memory.group(1)) / 1024**2),
    }


def versions():
    wanted = {
        "bgfiles": [env.BIN, "--version"],
        "PostgreSQL": [install.postgres_binaries() / "postgres", "--version"],
        "nginx": [install.find("nginx"), "-v"],
        "wrk": ["wrk", "-v"],
        "redis-server": ["redis-server", "--version"],
        "sqlite3": ["sqlite3", "--version"],
        "Python": [env.PYTHON, "--version"],
    }
    found = {name: version(command) for name, command in wanted.items()}
    lines = (env.PEERS / "requirements.txt").read_text().split()
    commit = version(["git", "-C", env.ROOT, "describe", "--always", "--dirty"], r"\S+")
    return {**found, "commit": commit, **dict(line.split("==") for line in lines)}


def version(command, pattern=r"\d+\.\d+[\w.]*"):
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group() if found else "unknown"
