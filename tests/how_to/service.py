"""bgfiles as a page sets it up, and how it is asked: by curl, from an address of its own."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time

from machine import HOST, eventually, run

CLIENT = "127.0.0.77"
CONFIG = "/etc/bgfiles/bgfiles.toml"
SECRET = "no secret at all - but of more than 32 characters"
PASSWORD = "correct horse battery staple"
# Slow enough that its events come one after the other.
JOB = '''title = "Numbers"
formats = ["csv", "xlsx"]
filename = "numbers-{upto}.{ext}"
max_rows = 50_000_000
query = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :upto) SELECT i AS number, i * i AS square FROM n
"""
[criteria.upto]
type = "integer"
required = true
'''


class Answer:
    def __init__(self, status, head, body):
        self.status, self.body = status, body
        lines = [line.split(":", 1) for line in head.split("\r\n") if ":" in line]
        self.headers = {}
        for name, value in lines:
            name = name.strip().lower()
            self.headers[name] = ", ".join(filter(None, [self.headers.get(name), value.strip()]))

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return self.headers.get(name.lower())


def ask(url, method="GET", headers=(), body=None, jar=None, more=()):
    """One call; no redirect is followed."""
    with tempfile.TemporaryDirectory() as folder:
        head, out = f"{folder}/head", f"{folder}/out"
        command = ["curl", "-sS", "-D", head, "-o", out, "-w", "%{http_code} %{http_version}", "--max-time", "90",
                   "--interface", CLIENT, "--cacert", f"/etc/ssl/certs/{HOST}.pem", *more]
        command += ["-I"] if method == "HEAD" else ["-X", method]
        for header in headers:
            command += ["-H", header]
        if jar:
            command += ["-b", jar, "-c", jar]
        if body is not None:
            pathlib.Path(folder, "body").write_bytes(body if isinstance(body, bytes) else body.encode())
            command += ["--data-binary", f"@{folder}/body"]
        status, version = run(*command, url).split()
        text = pathlib.Path(head).read_bytes().decode(errors="replace") if os.path.exists(head) else ""
        # The last head: before it stand 100 and the like.
        last = [part for part in text.split("\r\n\r\n") if part][-1]
        answer = Answer(int(status), last, pathlib.Path(out).read_bytes() if os.path.exists(out) else b"")
        answer.version = version
        return answer


class Service:
    """web, worker and a second web process beside them that nothing stands in front of: what it says is the truth."""

    def __init__(self, machine, bgfiles, *, database="sqlite:/var/lib/bgfiles/bgfiles.db", environment=None):
        self.machine, self.bgfiles = machine, bgfiles
        self.plain = "http://127.0.0.1:8001"
        text = pathlib.Path(CONFIG).read_text() if os.path.exists(CONFIG) else ""
        said = re.search(r'^base_url = "(.+)"$', text, re.M)
        self.base = said[1] if said else "http://127.0.0.1:8000"
        pathlib.Path("/etc/bgfiles/jobs").mkdir(parents=True, exist_ok=True)
        pathlib.Path("/etc/bgfiles/jobs/numbers.toml").write_text(JOB)
        self.environment = {
            "PATH": os.environ["PATH"], "BGFILES_SECRET_KEY": SECRET, "BGFILES_JOBS_DIR": "/etc/bgfiles/jobs",
            "BGFILES_MAIL": "file:/var/lib/bgfiles/mail", "BGFILES_LOCK_TOKENS_RESOURCES": "cms/*", **(environment or {}),
        }
        if database:
            self.environment["DATABASE_URL"] = database
        if os.path.exists(CONFIG):
            self.environment["BGFILES_CONFIG"] = CONFIG
        if "storage" not in text:
            self.environment.setdefault("BGFILES_STORAGE", "file:/var/lib/bgfiles/files")

    def command(self, *arguments, text=None, **more):
        return run(*self.as_user(), self.bgfiles, *arguments, env=self.environment, input=text, cwd="/var/lib/bgfiles", **more).strip()

    def as_user(self):
        group = run("id", "-g", "bgfiles").strip()
        return ["setpriv", "--reuid=bgfiles", f"--regid={group}", "--init-groups", "--"]

    def spawn(self, name, *arguments, **environment):
        self.machine.start(name, [*self.as_user(), self.bgfiles, *arguments], env={**self.environment, **environment}, cwd="/var/lib/bgfiles")

    def start(self, second=True):
        self.command("migrate")
        self.command("create-user", "amy", "--email", "amy@example.com", "--role", "staff", "--password-stdin", text=PASSWORD)
        self.command("create-client", "backend", "--token-ttl", "never")
        self.token = self.command("create-token", "--user", "amy", "--client", "backend").splitlines()[-1]
        self.spawn("web", "web")
        if second:
            self.spawn("plain", "web", BGFILES_BIND="127.0.0.1:8001", BGFILES_SERVE="stream")
        self.spawn("worker", "worker")
        for port in (8000, 8001)[: 1 + second]:
            eventually(lambda port=port: self.ready(port), of=f"web at {port}")

    def ready(self, port=8000):
        if gone := self.machine.ended():
            raise RuntimeError("\n".join(gone))
        try:
            return ask(f"http://127.0.0.1:{port}/readyz").status == 200
        except RuntimeError:
            return False

    # --- asking ------------------------------------------------------------------------------
    def api(self, path, method="GET", value=None, base=None, headers=()):
        headers = [f"Authorization: Token {self.token}", "Content-Type: application/json", *headers]
        body = value if value is None or isinstance(value, bytes) else json.dumps(value)
        return ask((base or self.base) + path, method, headers, body)

    def request(self, upto=1000, base=None, **more):
        answer = self.api("/api/requests", "POST", {"file_type": "numbers", "criteria": {"upto": upto}, **more}, base)
        if answer.status != 202:
            raise RuntimeError(f"POST /api/requests: {answer.status} {answer.body[:500]}")
        return answer

    def finished(self, id, base=None, seconds=60):
        """The request, once it has ended well."""
        def over():
            row = self.api(f"/api/requests/{id}", base=base).json()
            if row["status"] in ("failed", "cancelled"):
                raise RuntimeError(f"{id}: {row['status']}: {row['error']}")
            return row["status"] == "finished" and row
        return eventually(over, seconds, of=f"request {id}")

    def file(self, upto=1000, base=None, **more):
        return self.finished(self.request(upto, base, **more).json()["id"], base)


def sha256(body):
    return hashlib.sha256(body).hexdigest()


class Events(threading.Thread):
    """A stream of events, read as it comes: (seconds, line) of each line."""

    def __init__(self, url, headers, more=("--compressed",)):
        super().__init__(daemon=True)
        self.lines, self.headers, self.status = [], {}, None
        command = ["curl", "-sSNi", "--max-time", "300", "--interface", CLIENT, "--cacert", f"/etc/ssl/certs/{HOST}.pem", *more]
        for header in headers:
            command += ["-H", header]
        self.process = subprocess.Popen([*command, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.start()

    def run(self):
        head = True
        for line in self.process.stdout:
            line = line.decode(errors="replace").rstrip("\r\n")
            if head and not line:
                head = False
            elif head and line.startswith("HTTP/"):
                self.status = int(line.split()[1])
            elif head:
                name, _, value = line.partition(":")
                self.headers[name.lower()] = value.strip()
            else:
                self.lines.append((time.monotonic(), line))

    def named(self):
        return [(at, line[6:].strip()) for at, line in self.lines if line.startswith("event:")]
