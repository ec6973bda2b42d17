"""What a process takes: wall and CPU seconds, memory, and what it leaves."""

import os
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import env
from .env import Failed

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Command:
    """One side of a comparison. `before` runs untimed; `most` limits the rounds of slow ones."""

    name: str
    command: list
    output: Path
    environ: dict
    before: object = None
    most: int = 99
    stdout: bool = False
    usages: list = field(default_factory=list)


@dataclass
class Usage:
    wall: float
    cpu: float
    peak: float
    size: float


def once(command):
    """Runs a command and says what it took; MiB and MB."""
    remove(command.output)
    if command.before:
        command.before()
    os.sync()
    to = {"stdout": open(command.output, "wb")} if command.stdout else {}
    began = time.monotonic()
    process = env.start(*command.command, environ=command.environ, log="exports", **to)
    peak = [0.0]
    watch = threading.Thread(target=watch_peak, args=(process.pid, peak), daemon=True)
    watch.start()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.join()
    env.stop(process)
    if process.returncode:
        raise Failed(f"{command.name} failed; see target/bench/logs/exports.log")
    return Usage(wall, used.ru_utime + used.ru_stime, peak[0], size_of(command.output) / 1e6)


def watch_peak(pid, peak):
    # Not wait4's maximum: that of a child begins with what this script had when it was forked.
    while now := status(pid, "VmHWM"):
        peak[0] = max(peak[0], now)
        time.sleep(0.01)


def remove(output):
    if output.is_dir():
        env.empty(output)
    else:
        output.unlink(missing_ok=True)


def size_of(output):
    if output.is_dir():
        return sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return output.stat().st_size


def alternate(commands, rounds, check):
    """A B C A B C …; commands whose program is not there are left out. `check` looks at the first
    output of each."""
    there = [c for c in commands if Path(c.command[0]).exists()]
    for n in range(rounds):
        for command in (c for c in there if n < c.most):
            usage = once(command)
            command.usages.append(usage)
            if n == 0:
                check(command)
            print(f"  {command.name:<34} {usage.wall:7.2f} s", file=sys.stderr, flush=True)
    return commands


COLUMNS = ["wall s", "min", "max", "CPU s", "peak MiB", "file MB", "wall / base", "rounds"]


def summary(command, base):
    """Medians; the ratio is the median of the rounds' ratios to the base's wall time."""
    if not command.usages:
        return [None] * len(COLUMNS)
    walls = [u.wall for u in command.usages]
    median = [statistics.median(getattr(u, what) for u in command.usages) for what in ("cpu", "peak", "size")]
    ratios = [ours.wall / theirs.wall for ours, theirs in zip(command.usages, base.usages)]
    ratio = statistics.median(ratios) if ratios else None
    return [statistics.median(walls), min(walls), max(walls), *median, ratio, len(walls)]


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p))]


def spread(values):
    return [percentile(values, 0.5), percentile(values, 0.99)]


def status(pid, what):
    """A line of /proc/PID/status in MiB; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(lines.split(what + ":")[1].split()[0]) / 1024 if what + ":" in lines else 0


class Tree:
    """A process and all below it."""

    def __init__(self, *processes):
        self.roots = [process.pid for process in processes]

    def pids(self):
        children = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if fields := stat(pid):
                children.setdefault(int(fields[1]), []).append(int(pid))
        found = list(self.roots)
        for pid in found:
            found += children.get(pid, [])
        return found

    def cpu(self):
        """User and system seconds so far, ended children included."""
        ticks = [sum(map(int, fields[11:15])) for pid in self.pids() if (fields := stat(pid))]
        return sum(ticks) / TICKS

    def on_cpu(self):
        """The same to the nanosecond, without what ended: for processes that hardly do anything."""
        return sum(map(on_cpu, self.pids())) / 1e9

    def rss(self):
        return sum(status(pid, "VmRSS") for pid in self.pids())

    def pss(self):
        """MiB, with what processes share counted once."""
        return sum(pss(pid) for pid in self.pids())


def stat(pid):
    """/proc/PID/stat from the state on; nothing when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def on_cpu(pid):
    """Nanoseconds of all threads of a process."""
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return 0


def pss(pid):
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(rollup.split("\nPss:")[1].split()[0]) / 1024
