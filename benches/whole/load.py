"""Load over HTTP, the same for all sides: wrk for rates, plain connections for exact numbers."""

import json
import signal
import socket
import time
from contextlib import contextmanager

from . import env
from .env import PEERS, Failed


def wrk(url, connections, seconds, headers=None, body=None):
    """Requests a second and milliseconds (`rate`, `p50`, `p99`) of one URL under load."""
    command, environ = wrk_command(url, connections, seconds), wrk_environment(headers, body)
    said = json.loads(env.output(*command, environ=environ).strip().splitlines()[-1])
    if said["errors"]:
        raise Failed(f"{said['errors']} of {said['requests']} requests failed under load")
    return said


def wrk_command(url, connections, seconds):
    return "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", PEERS / "load.lua", url


def wrk_environment(headers=None, body=None, **more):
    lines = "\n".join(f"{name}: {value}" for name, value in (headers or {}).items())
    return env.environment(METHOD="POST" if body else "GET", BODY=body or "", HEADERS=lines, **more)


class Poster:
    """One connection that posts the same body again and again, with as little as HTTP/1.1 needs."""

    def __init__(self, stack):
        self.stack = stack
        body = stack.body.encode()
        headers = {"Host": f"127.0.0.1:{stack.port}", **stack.headers, "Content-Length": len(body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.request = f"POST {stack.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
        self.socket = None

    def post(self):
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.stack.port), timeout=60)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(self.request)
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.read()
        head, _, body = got.partition(b"\r\n\r\n")
        status, head = head[9:12], head.lower()
        if status not in (b"201", b"202") or b"content-length: " not in head:
            raise Failed(f"POST {self.stack.path}: {head.decode()}")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self.read()
        if b"connection: close" in head:
            self.socket.close()
            self.socket = None

    def read(self):
        got = self.socket.recv(65536)
        if not got:
            raise Failed(f"POST {self.stack.path}: no answer")
        return got


@contextmanager
def posting(stack, count, connections=4):
    """Posts `count` times, and up to `connections - 1` times more, which were on their way. By wrk, as
    a client in Python would take a tenth of the machine from whoever is measured."""
    environ = wrk_environment(stack.headers, stack.body, COUNT=count)
    process = env.start(*wrk_command(stack.address(), connections, 600), environ=environ, log="wrk")
    try:
        yield
    finally:
        env.stop(process, signal.SIGINT)


class Sink:
    """An SMTP server that takes every mail and notes when it came."""

    def __enter__(self):
        self.port, self.log = env.free_port(), env.DIR / "mails.log"
        self.process = env.start(env.PYTHON, PEERS / "smtp_sink.py", self.port, self.log)
        env.wait_for("the SMTP sink", lambda: env.listens(self.port), self.process)
        return self

    def __exit__(self, *_):
        env.stop(self.process)

    def arrivals(self):
        return [float(line) for line in self.log.read_text().splitlines()]

    def wait(self, count, seconds=300):
        """When the `count`th mail came, of all since the beginning."""
        end = time.monotonic() + seconds
        while len(arrivals := self.arrivals()) < count:
            if time.monotonic() > end:
                raise Failed(f"{len(arrivals)} of {count} mails after {seconds} s")
            time.sleep(0.005 if count - len(arrivals) < 50 else 0.05)
        return arrivals[count - 1]
