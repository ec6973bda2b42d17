"""What has to hold after every power cut."""

import contextlib
import hashlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
import uuid

import recording
import replay

ANSWER = re.compile(rb'^HTTP/1\.1 (\d+).*?\r\n\r\n.*?"id":"([0-9a-f-]{36})"', re.S)
TABLE = "bgfiles_file_requests NOT INDEXED"
# Databases up to this size are looked at in full after each cut, larger ones now and then.
IN_FULL = 8e6
COUNTS = ("cuts", "promises", "objects", "full", "restarts", "unpublished", "unpublished_torn")


class Check:
    """Plays a recording back, with these cuts in it."""

    def __init__(self, made, seed, names="strict", broken=None):
        self.made, self.seed, self.names, self.broken = made, seed, names, broken
        self.facts, self.faults = made.facts(), []
        self.count = dict.fromkeys(COUNTS, 0)
        # Requests that somebody was told are recorded; files that somebody was told are finished.
        self.promised, self.finished = {}, {}
        # Immutable: even reading would make files there.
        sql = f"SELECT storage_key, size, sha256 FROM {TABLE} WHERE status = 'finished'"
        path = f"file:{made.data}/{replay.DATABASE}?immutable=1"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as connection:
            self.whole = {key: whole for key, *whole in connection.execute(sql)}

    def run(self, cuts, restarts=0, binary=None):
        cuts, settled, next_cut = sorted(cuts), False, 0
        with tempfile.TemporaryDirectory(prefix="power-cut-", dir=memory(2 * self.facts["length"])) as folder:
            self.folder = folder
            self.disk = replay.Disk(folder, self.facts["roots"], self.broken, self.names)
            for record in replay.Log(self.made.folder / "log"):
                begin, end, op, data = record[0], record[1], record[2], record[8]
                if not settled and begin >= self.facts["settled"]:
                    settled = True
                    self.disk.sync_all(begin)
                if op == "A":
                    self.answered(begin, bytes(data))
                else:
                    self.disk.apply(record)
                while next_cut < len(cuts) and cuts[next_cut] <= end:
                    self.cut(cuts[next_cut])
                    done = self.count["restarts"]
                    if done < restarts and len(self.promised) >= 100 * (done + 1) and not self.faults:
                        self.restart(cuts[next_cut], binary)
                    next_cut += 1
                if next_cut == len(cuts) and self.broken:
                    break
            if not self.broken:
                self.disk.sync_all(end)
                self.fault(end, "harness", self.disk.differences(self.made.data), "the log does not give the folder")
                late = [i for i, by in self.facts["told"] if self.promised.get(uuid.UUID(i).bytes, by) >= by]
                self.fault(end, "harness", late, "answers are not in the log")
        return self.count, self.faults

    def fault(self, at, kind, what, text):
        if what:
            self.faults.append((at, kind, len(what), f"{text}: {', '.join(map(str, what[:3]))}"))

    def answered(self, at, data):
        answer = ANSWER.match(data)
        if answer and answer[1] == b"202":
            self.promised.setdefault(uuid.UUID(answer[2].decode()).bytes, at)
        elif answer and b'"status":"finished"' in data:
            self.finished.setdefault(uuid.UUID(answer[2].decode()).bytes, at)

    def cut(self, at):
        cut = replay.Cut(self.disk, at, self.seed)
        self.count["cuts"] += 1
        try:
            with replay.Database(cut) as connection:
                there = {row[0] for row in connection.execute(f"SELECT id FROM {TABLE}")}
                rows = connection.execute(
                    f"SELECT id, status, storage_key, size, sha256 FROM {TABLE} WHERE generation > 0").fetchall()
                if random.Random(at).random() < IN_FULL / max(1, os.path.getsize(self.disk_path(cut))):
                    self.in_full(cut, len(there))
        except (replay.Fault, sqlite3.DatabaseError) as error:
            return self.fault(at, "database", [error], f"the database is broken [{cut.mode}]")
        self.count["promises"] += len(self.promised) + len(self.finished)
        self.fault(at, "lost", ids(self.promised.keys() - there), f"acknowledged, not there [{cut.mode}]")
        self.objects(cut, rows)

    def disk_path(self, cut):
        return cut.find(replay.DATABASE).path

    def objects(self, cut, rows):
        found = {name.removeprefix(replay.STORE): node for name, node in self.disk.tree(cut.choose)
                 if name.startswith(replay.STORE) and "#" not in name}
        published = {key: whole for _, status, key, *whole in rows if status == "finished"}
        self.count["objects"] += len(published)
        nodes = {key: found.pop(key, None) for key in published}
        absent = [key for key, node in nodes.items() if not node]
        torn = [key for key, node in nodes.items() if node and cut.digest(node) != published[key]]
        lost = ids(self.finished.keys() - {row[0] for row in rows if row[1] == "finished"})
        self.fault(cut.at, "absent", absent, f"published, not there [{cut.mode}]")
        self.fault(cut.at, "torn", torn, f"published, not whole [{cut.mode}]")
        self.fault(cut.at, "lost", lost, f"said to be finished, not so any more [{cut.mode}]")
        # Of those that no row names yet, nobody reads; they are swept, and made anew under another name.
        for key, node in found.items():
            self.count["unpublished"] += 1
            if key in self.whole and cut.digest(node) != self.whole[key]:
                self.count["unpublished_torn"] += 1

    def in_full(self, cut, rows):
        """As a process that starts again and writes: everything is in order, and stays there when the
        log has been written back."""
        self.count["full"] += 1
        path = f"{self.folder}/copy"
        for end in ("", "-wal"):
            if os.path.exists(f"{self.disk_path(cut)}{end}"):
                shutil.copyfile(f"{self.disk_path(cut)}{end}", path + end)
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            found = connection.execute("PRAGMA integrity_check").fetchall()
            connection.execute("UPDATE bgfiles_file_requests SET description = 'after the cut' WHERE id = zeroblob(16)")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            count = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()[0]
            if found != [("ok",)] or count != rows:
                raise replay.Fault(f"integrity_check: {found[:3]}; {count} rows of {rows}")
        finally:
            connection.close()
            for end in ("", "-wal", "-shm"):
                if os.path.exists(path + end):
                    os.unlink(path + end)

    def restart(self, at, binary):
        """The real worker on what the cut left: it makes whatever was promised."""
        self.count["restarts"] += 1
        cut = replay.Cut(self.disk, at, self.seed)
        with tempfile.TemporaryDirectory(prefix="power-cut-") as folder:
            for name, node in self.disk.tree(cut.choose):
                path = os.path.join(folder, "data", name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(cut.bytes(node))
            data = os.path.join(folder, "data")
            environment = recording.environment(data, folder, self.made.folder / "jobs", 0)
            with open(os.path.join(folder, "log"), "wb") as log:
                worker = subprocess.Popen([binary, "worker"], env=environment, cwd=folder, stdout=log, stderr=log)
            left, deadline = set(self.promised), time.monotonic() + 120
            sql = f"SELECT id, storage_key, size, sha256 FROM {TABLE} WHERE status = 'finished'"
            try:
                while left and time.monotonic() < deadline and worker.poll() is None:
                    time.sleep(0.2)
                    with contextlib.closing(sqlite3.connect(f"{data}/{replay.DATABASE}", timeout=30)) as connection:
                        rows = connection.execute(sql).fetchall()
                    left -= {one for one, key, *whole in rows
                             if one in left and digest(f"{data}/{replay.STORE}{key}") == whole}
            finally:
                worker.terminate()
                worker.wait()
            self.fault(at, "restart", ids(left), "promised, not made by a worker that starts again")


def ids(found):
    return sorted(str(uuid.UUID(bytes=one)) for one in found)


def digest(path):
    """[size, SHA-256]"""
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return [os.path.getsize(path), hashlib.sha256(file.read()).hexdigest()]


def memory(needed):
    """A folder in memory, if there is one of that size."""
    there = os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > needed
    return "/dev/shm" if there else None
