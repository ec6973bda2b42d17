"""Installs the peers: Debian's packages where commands are missing, Python's below target/bench."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import env
from .env import Failed

# What a command is in, and a file of it where that is not on everybody's path.
PACKAGES = {
    "nginx": "nginx-extras",
    "wrk": "wrk",
    "redis-server": "redis-server",
    "sqlite3": "sqlite3",
    "psql": "postgresql-client",
}


def everything():
    env.DIR.mkdir(parents=True, exist_ok=True)
    missing = [package for command, package in PACKAGES.items() if not find(command)]
    if not postgres_binaries():
        missing.append("postgresql")
    if missing:
        debian(*missing)
    python()


def find(command):
    """Where a command is; some are for administrators."""
    return shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin")


def postgres_binaries():
    """The folder of initdb, the newest server's first; nothing when there is none."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin: -float(bin.parent.name))
    return next((bin for bin in found if (bin / "initdb").exists()), None)


def debian(*packages):
    wanted = " ".join(packages)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failed(f"missing: {wanted} (Debian's names); install them, or run this as root")
    print(f"installing {wanted}", flush=True)
    quiet = env.environment(DEBIAN_FRONTEND="noninteractive")
    env.output("apt-get", "update", "-qq")
    env.output("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, environ=quiet)
    # These packages start a server of their own, on the usual port.
    for package, service in {"redis-server": "redis-server", "nginx-extras": "nginx"}.items():
        if package in packages and shutil.which("service"):
            subprocess.run(["service", service, "stop"], capture_output=True)


def python():
    wanted = env.PEERS / "requirements.txt"
    done = env.DIR / "python/requirements.txt"
    if done.exists() and done.read_text() == wanted.read_text():
        return
    print("installing Python's peers", flush=True)
    # Distributions build Python with all optimisations; other builds are often slower.
    base = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    if subprocess.run([base, "-m", "ensurepip", "--version"], capture_output=True).returncode:
        debian("python3-venv")
    env.output(base, "-m", "venv", env.PYTHON.parent.parent)
    env.output(env.PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", wanted)
    shutil.copy(wanted, done)
