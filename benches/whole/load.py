"""Load over HTTP, the same for all sides: wrk for rates, plain connections for exact numbers."""

import http.client
import json
import threading
import time

from . import env
from .env import PEERS, Failed


def wrk(url, connections, seconds, headers=None, body=None):
    """Requests a second and milliseconds (`rate`, `p50`, `p99`) of one URL under load."""
    lines = "\n".join(f"{name}: {value}" for name, value in (headers or {}).items())
    environ = env.environment(METHOD="POST" if body else "GET", BODY=body or "", HEADERS=lines)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", PEERS / "load.lua", url]
    said = json.loads(env.output(*command, environ=environ).strip().splitlines()[-1])
    if said["errors"]:
        raise Failed(f"{said['errors']} of {said['requests']} requests failed under load")
    return said


class Poster:
    """One connection that posts the same body again and again."""

    def __init__(self, stack):
        self.stack = stack
        self.connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)

    def post(self):
        self.connection.request("POST", self.stack.path, self.stack.body, self.stack.headers)
        answer = self.connection.getresponse()
        answer.read()
        if answer.status not in (201, 202):
            raise Failed(f"POST {self.stack.path}: {answer.status}")


def post_many(stack, count, connections=4):
    """Exactly `count` posts."""

    def work():
        poster = Poster(stack)
        for _ in range(count // connections):
            poster.post()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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
