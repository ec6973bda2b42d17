"""Real processes under the recorder: what they did to the disk, and what they answered."""

import collections
import http.client
import json
import mmap
import os
import pathlib
import random
import socket
import struct
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "a power cut loses nothing that was promised"
# Rows that SQLite makes by itself, of a size that the criteria say: from bytes to several parts.
JOB = '''formats = ["csv"]
query = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :upto)
SELECT i AS number, (SELECT count(*) FROM sqlite_schema) AS tables, CAST(:tag AS text) AS tag,
substr(hex(zeroblob(:width)), 1, :width) AS filler FROM n
"""
[criteria]
upto = { type = "integer", required = true }
width = { type = "integer", required = true }
tag = { type = "text", required = true }
'''
CLIENTS = 24
ROUNDS = 4
# One in so many files is larger than a part of 8 MiB, and goes another way.
LARGE = 60


class Recording:
    """A folder with `data` (what was recorded), `log`, and `facts.json`."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"

    def facts(self):
        return json.loads((self.folder / "facts.json").read_text())

    def environment(self):
        return environment(self.data, self.folder, self.folder / "jobs", self.port) | {
            "LD_PRELOAD": str(self.folder / "record.so"),
            "POWER_CUT_FOLDER": str(self.data),
            "POWER_CUT_LOG": str(self.folder / "log"),
            "POWER_CUT_STATE": str(self.folder / "state"),
        }

    def make(self, binary, requests, files, seed, store=False):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder = self.folder.resolve()
        self.data = self.folder / "data"
        before = ["", "db", *(["store", "store/files"] if store else [])]
        for name in ["jobs", "mail", *(f"data/{name}" for name in before)]:
            (self.folder / name).mkdir()
        (self.folder / "jobs" / "rows.toml").write_text(JOB)
        (self.folder / "log").touch()
        (self.folder / "state").write_bytes(bytes(4096))
        source, library = HERE / "record.c", self.folder / "record.so"
        subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-o", library, source, "-lpthread"], check=True)
        with open(self.folder / "state", "r+b") as shared:
            self.state = mmap.mmap(shared.fileno(), 4096)
        self.port = free_port()
        self.binary, self.seed = str(binary), seed
        roots = {name: os.stat(self.data / name).st_ino for name in before}

        self.run("migrate")
        # A system that runs was synced long ago. From here on nothing is taken for granted.
        settled = self.length()
        self.run("create-user", "shop", "--role", "service")
        self.run("create-client", "backend", "--token-ttl", "never")
        self.token = self.run("create-token", "--user", "shop", "--client", "backend").split()[-1]
        self.told = []
        begun = time.monotonic()
        for number in range(ROUNDS):
            # Each round all processes end and begin: SQLite removes its log and makes a new one.
            share = range(requests * number // ROUNDS, requests * (number + 1) // ROUNDS)
            self.round(share, files * (number + 1) // ROUNDS)
        if len(self.told) != requests:
            raise SystemExit(f"{len(self.told)} of {requests} requests were answered")
        facts = {
            "roots": roots, "settled": settled, "length": self.length(), "told": self.told, "seed": seed,
            "seconds": time.monotonic() - begun, "requests": requests,
        }
        (self.folder / "facts.json").write_text(json.dumps(facts))

    def length(self):
        return struct.unpack_from("<Q", self.state)[0]

    def run(self, *arguments):
        done = subprocess.run(
            [self.binary, *arguments], env=self.environment(), cwd=self.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"bgfiles {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *arguments):
        with open(self.folder / f"{arguments[0]}.log", "ab") as log:
            return subprocess.Popen([self.binary, *arguments], env=self.environment(), cwd=self.folder,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def made(self):
        try:
            return len(os.listdir(self.data / "store" / "files" / "requests"))
        except FileNotFoundError:
            return 0

    def round(self, share, files):
        web, worker = self.start("web"), self.start("worker", "--workers", "4")
        try:
            wait_for_port(self.port, web)
            numbers, waiting, lock, stop = iter(share), collections.deque(), threading.Lock(), threading.Event()
            threads = [threading.Thread(target=self.ask, args=(numbers, waiting, lock)) for _ in range(CLIENTS)]
            looks = threading.Thread(target=self.look, args=(waiting, stop))
            for thread in [*threads, looks]:
                thread.start()
            deadline, asked = time.monotonic() + 1800, False
            while any(thread.is_alive() for thread in threads) or worker.poll() is None:
                if not asked and self.made() >= files:
                    # Once: a second one would end it between a change and its record.
                    worker.terminate()
                    asked = True
                died = web.poll() is not None or (worker.poll() is not None and not asked)
                if died or time.monotonic() > deadline:
                    raise SystemExit(f"web or worker came to grief; their logs are in {self.folder}")
                time.sleep(0.02)
            stop.set()
            looks.join()
        finally:
            stop.set()
            for process in [web] if asked else [web, worker]:
                process.terminate()
            web.wait()
            worker.wait()

    def ask(self, numbers, waiting, lock):
        """One client: asks for files, and writes down what it was promised, and by when.

        The log's length is read after the answer was: a bound from above. When exactly the promise
        was made, the log itself says, as answers stand in it; a promise without one is a fault.
        """
        connection = Connection(self.port, self.token)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return connection.close()
            chance = random.Random(f"{self.seed}:{number}")
            large = chance.randrange(LARGE) == 0
            criteria = {"upto": 9000 if large else chance.choice([1, 20, 200]),
                        "width": 1000 if large else chance.randrange(100), "tag": f"number {number}"}
            body = {"file_type": "rows", "format": "csv", "criteria": criteria, "notify": number % 5 == 0,
                    "requester": {"id": "amy", "email": "amy@example.com"}}
            status, answer = connection.call("POST", "/api/requests", json.dumps(body))
            if status != 202:
                raise SystemExit(f"a request was answered with {status}: {answer}")
            found = json.loads(answer)["id"]
            self.told.append((found, self.length()))
            waiting.append(found)

    def look(self, waiting, stop):
        """Asks for what is finished: who was told so may rely on it."""
        connection = Connection(self.port, self.token)
        while not stop.is_set():
            answer = connection.call("GET", f"/api/requests/{waiting[0]}")[1] if waiting else b""
            if b'"status":"finished"' in answer:
                waiting.popleft()
            else:
                time.sleep(0.01)


class Connection(http.client.HTTPConnection):
    """HTTP that stays open."""

    def __init__(self, port, token):
        super().__init__("127.0.0.1", port, timeout=120)
        self.headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}

    def call(self, method, path, body=None):
        self.request(method, path, body, self.headers)
        answer = self.getresponse()
        return answer.status, answer.read()


def environment(data, folder, jobs, port):
    """Settings, and nothing of those around us. Database and store are apart: what SQLite syncs of its
    own folder does the store no good."""
    others = {k: v for k, v in os.environ.items() if not k.startswith("BGFILES_") and k != "DATABASE_URL"}
    return others | {
        "DATABASE_URL": f"sqlite:{data}/db/bgfiles.db", "BGFILES_STORAGE": f"file://{data}/store/files",
        "BGFILES_MAIL": f"file:{folder}/mail", "BGFILES_JOBS_DIR": str(jobs), "BGFILES_SECRET_KEY": SECRET,
        "BGFILES_BIND": f"127.0.0.1:{port}", "BGFILES_LOG": "warn",
    }


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for_port(port, process):
    for _ in range(1200):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None:
                raise SystemExit("bgfiles web ended at once") from None
            time.sleep(0.05)
    raise SystemExit("bgfiles web does not listen")
