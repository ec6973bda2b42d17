"""Downloads through the mailed link, beside nginx's secure_link and Django."""

import base64
import hashlib
import os
import pwd
import resource
import shutil
import socket
import statistics
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from . import env, install, results, service
from .django import Site
from .env import DIR, PEERS, PYTHON
from .load import wrk
from .s3 import Store
from .service import Service
from .timing import Tree

KEY = "bench-key"
DJANGO = "Django, gunicorn"
RUN = DIR / "nginx"
# Rows of 1 KB: a file of 10 KB and one of 200 MB.
BLOCKS = {"small": 10, "large": 200 * 1024}
RATE = (
    "wrk, 64 connections; medians of alternating rounds. CPU is the servers' own, without PostgreSQL's. "
    "gunicorn's usual workers close each connection."
)
BULK = "One client reads a file of 200 MB, five times in turn."
SLOW = "Connections that read a KB every five seconds at most, of a file of 200 MB. RSS of all processes of the server."


@dataclass
class Side:
    """A server and the paths of both files on it; no large one where another server sends it."""

    name: str
    port: int
    small: str
    large: str
    tree: Tree
    rates: list = field(default_factory=list)


def run(data, sizes):
    service.define_all(data)
    with ExitStack() as stack:
        sides = start(data, stack)
        return [rate(sides, sizes), bulk(sides), slow(sides, sizes)]


def start(data, stack):
    """All servers, each with the same two files."""
    env.empty(DIR / "files")
    ours = stack.enter_context(Service(data, "PostgreSQL", BGFILES_SERVE="stream"))
    ours.start_worker()
    links = make(ours)
    files = media()
    site = stack.enter_context(Site(data, files=files.values()))
    # The same database, settings and key, handing over to nginx.
    port = env.free_port()
    handing = {**ours.environ, "BGFILES_SERVE": "x-accel:/internal/", "BGFILES_BIND": f"127.0.0.1:{port}"}
    web = env.start(env.BIN, "web", environ=handing, log="web")
    stack.callback(env.stop, web)
    env.wait_for("bgfiles web", lambda: env.listens(port), web)
    nginx_port, nginx = start_nginx(port)
    stack.callback(env.stop, nginx)
    return [
        Side("bgfiles, stream", ours.port, *links, ours.web),
        Side("bgfiles, x-accel (nginx sends)", nginx_port, *links, Tree(nginx, web)),
        Side("nginx secure_link", nginx_port, *map(secure_link, files), Tree(nginx)),
        Side(DJANGO, site.port, *site.links, site.web),
        presigned(data, stack),
    ]


def make(ours):
    """The links of both files."""
    rows = [ours.wait(ours.ask("blocks", blocks=blocks)) for blocks in BLOCKS.values()]
    return [path_of(row["download_url"]) for row in rows]


def path_of(url):
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def media():
    """Copies of what bgfiles made, for the others to serve."""
    folder = env.empty(DIR / "media")
    made = sorted((path for path in (DIR / "files").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    # The smallest one was the worker's first.
    return {name: shutil.copy(path, folder / name) for name, path in zip(BLOCKS, made[1:])}


def presigned(data, stack):
    """It answers with an address of the store, which sends the bytes."""
    store = stack.enter_context(Store())
    ours = stack.enter_context(Service(data, "PostgreSQL", "presigned", BGFILES_SERVE="presigned", **store.settings()))
    ours.start_worker()
    small = path_of(ours.wait(ours.ask("blocks", blocks=BLOCKS["small"]))["download_url"])
    return Side("bgfiles, presigned (redirects only)", ours.port, small, None, ours.web)


def secure_link(name):
    expires, path = 4_102_444_800, f"/sec/{name}"
    digest = hashlib.md5(f"{expires}{path} {KEY}".encode()).digest()
    signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return f"{path}?signature={signature}&expires={expires}"


def start_nginx(web):
    port = env.free_port()
    user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
    given = {
        "RUN": RUN,
        "USER": user,
        "PORT": port,
        "WEB": web,
        "KEY": KEY,
        "MEDIA": DIR / "media",
        "STORAGE": DIR / "files",
    }
    text = (PEERS / "nginx.conf.in").read_text()
    for name, value in given.items():
        text = text.replace(f"@{name}@", str(value))
    config = env.empty(RUN) / "nginx.conf"
    config.write_text(text)
    process = env.start(install.find("nginx"), "-p", RUN, "-e", RUN / "start.log", "-c", config)
    env.wait_for("nginx", lambda: env.listens(port), process)
    return port, process


def rate(sides, sizes):
    for _ in range(sizes.rounds):
        for side in sides:
            before = side.tree.cpu()
            said = wrk(f"http://127.0.0.1:{side.port}{side.small}", 64, sizes.load_seconds)
            cpu = 1e6 * (side.tree.cpu() - before) / said["requests"]
            side.rates.append([said["rate"], said["p50"], said["p99"], cpu])
            print(f"  {side.name:<36} {said['rate']:9,.0f} requests/s", flush=True)
    rows = {side.name: [statistics.median(column) for column in zip(*side.rates)] for side in sides}
    return results.table("10 KB, many clients", ["requests/s", "p50 ms", "p99 ms", "CPU µs each"], rows, RATE)


def bulk(sides):
    rows = {side.name: bulk_of(side) for side in sides if side.large}
    return results.table("200 MB, one client", ["MB/s", "CPU s/GB"], rows, BULK)


def bulk_of(side, times=5):
    cpu, began = side.tree.cpu(), time.monotonic()
    size = sum(read(side.port, side.large) for _ in range(times))
    seconds = time.monotonic() - began
    return [size / seconds / 1e6, (side.tree.cpu() - cpu) / (size / 1e9)]


def read(port, path):
    """Downloads and counts the bytes."""
    buffer, size = bytearray(1 << 18), 0
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        client.settimeout(60)
        while count := client.recv_into(buffer):
            if not size and not buffer.startswith(b"HTTP/1.1 200"):
                raise env.Failed(f"a download failed: {bytes(buffer[:60])!r}")
            size += count
    return size


def slow(sides, sizes):
    # A server has a socket and a file for each.
    count = min(sizes.slow_readers, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 100)
    # gunicorn's processes serve one reader each.
    able = [side for side in sides if side.large and side.name != DJANGO]
    rows = {side.name: slow_of(side, count) for side in able}
    columns = ["connections", "MiB before", "MiB with them", "KiB each"]
    return results.table(f"{count:,} slow readers", columns, rows, SLOW)


def slow_of(side, count):
    before = side.tree.rss()
    command = (PYTHON, PEERS / "slow_readers.py", "127.0.0.1", side.port, side.large, count)
    readers = env.start(*command, stdout=subprocess.PIPE, text=True)
    try:
        answered = int(readers.stdout.readline() or 0)
        time.sleep(10)
        during = side.tree.rss()
    finally:
        env.stop(readers)
    print(f"  {side.name}: {answered:,} slow readers", flush=True)
    return [answered, before, during, 1024 * (during - before) / max(answered, 1)]
