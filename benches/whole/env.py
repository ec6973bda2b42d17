"""Where things are, how much is measured, and the processes that were started."""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = ROOT / "target/release/bgfiles"
XLSX_PEER = ROOT / "target/release/examples/xlsx_peer"
XLSX_AT_HAND = ROOT / "target/release/examples/xlsx_at_hand"
PEERS = ROOT / "benches/peers"
DIR = ROOT / "target/bench"
OUT = DIR / "out"
LOGS = DIR / "logs"
# Kept with the report, so that a part can be measured anew by itself.
RESULTS = ROOT / "docs/benchmarks"
PYTHON = DIR / "python/bin/python"


class Failed(Exception):
    """Something that the person who measures has to mend."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    name: str
    rows: int
    rounds: int
    memory_rows: tuple
    load_seconds: int
    rest_seconds: int
    lone: int
    burst: int
    backlog: int
    history: int
    slow_readers: int


FULL = Sizes("full", 1_000_000, 3, (10_000, 100_000, 1_000_000, 10_000_000), 5, 60, 150, 2000, 100_000, 1_000_000, 10_000)
QUICK = Sizes("quick", 100_000, 2, (10_000, 100_000), 1, 20, 20, 200, 1000, 10_000, 500)

_started = []


def environment(**more):
    """Of a child: ours without anybody's settings of bgfiles."""
    ours = ("BGFILES_", "AWS_", "PG")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours) and k != "DATABASE_URL"}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **{k: str(v) for k, v in more.items()}}


def start(*command, environ=None, log=None, **options):
    """Starts a process in a group of its own, so that its children end with it."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = log or Path(command[0]).name
    options.setdefault("stdout", subprocess.DEVNULL)
    with open(LOGS / f"{log}.log", "ab") as errors:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=environ or environment(),
            stdin=subprocess.DEVNULL,
            stderr=errors,
            cwd=DIR,
            start_new_session=True,
            **options,
        )
    _started.append(process)
    return process


def stop(process, how=signal.SIGTERM):
    """Ends a process that was started, kindly at first, and whatever it left behind."""
    if process not in _started:
        return
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    _started.remove(process)


def stop_all():
    for process in reversed(_started[:]):
        stop(process)


def output(*command, environ=None, **options):
    """What a command prints; it must succeed."""
    command = [str(part) for part in command]
    options.setdefault("env", environ or environment())
    done = subprocess.run(command, capture_output=True, text=True, cwd=DIR, **options)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1000:]
        raise Failed(f"{Path(command[0]).name} {' '.join(command[1:3])} failed: {said}")
    return done.stdout


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, ready, process=None, seconds=60):
    """Waits until `ready()` says so; fails when the process ended or time is up."""
    end = time.monotonic() + seconds
    while not ready():
        if process and process.poll() is not None:
            raise Failed(f"{what} ended at its start; see target/bench/logs")
        if time.monotonic() > end:
            raise Failed(f"{what}: nothing for {seconds} s; see target/bench/logs")
        time.sleep(0.02)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def empty(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
