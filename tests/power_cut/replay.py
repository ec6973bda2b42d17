"""What a disk holds after a power cut, by the weakest promise of POSIX that is reasonable.

Contents: what a file held when an fsync of it *began* is on the disk once that fsync returned. Of
what was written since, each page of 4096 bytes or sector of 512 has reached the disk or not, in any
order; one that was written several times is there as it was at some moment. The same goes for the
file's size, and where the size has reached the disk and the bytes have not, there are zeros or what
was there before.

Names (made, renamed, removed): on the disk by an fsync of their folder, and by nothing else
(`strict`); else each has reached the disk or not, where two changes of one name keep their order. A
rename is one change. With `journal`, an fsync of anything takes all names along that came before it,
as ext4 and XFS do it.
"""

import hashlib
import mmap
import os
import pathlib
import random
import sqlite3
import struct
from array import array

HEADER = struct.Struct("<BxHHHIIQQQ")
STALE = b"\xa5" * 65536
DATABASE = "db/bgfiles.db"
STORE = "store/files/"
MODES = ["none", "all", "moment", "files", "pages", "sectors"]
UNITS = {"pages": 4096, "sectors": 512}


class Fault(Exception):
    pass


class Log:
    """The records of the log, in their order."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view = memoryview(self.bytes)

    def __iter__(self):
        """(begin, end, op, inode, a, b, name, other, data)"""
        at, length, view = 0, len(self.bytes), self.view
        while at < length:
            op, name, other, _, data, _, inode, a, b = HEADER.unpack_from(view, at)
            names = at + 40
            rest = names + name + other
            yield (at, rest + data, chr(op), inode, a, b, bytes(view[names:names + name]).decode(),
                   bytes(view[names + name:rest]).decode(), view[rest:rest + data])
            at = rest + data

    def points(self):
        """Where one may cut: after each record; the interesting ones by what they follow."""
        points = {kind: array("Q") for kind in ("any", "changed", "synced", "answered", "first")}
        kinds = dict.fromkeys("WTCDRLU", "changed") | dict.fromkeys("SF", "synced") | {"A": "answered"}
        # `first`: while a folder in which folders are made is synced for the first time.
        folders, under_way = {}, set()
        for at, end, op, inode, a, _, name, _, _ in self:
            if op == "!":
                raise SystemExit(f"the recorder met what it does not understand: {name}")
            points["any"].append(end)
            points[kinds[op]].append(end)
            if op == "D":
                folders.setdefault(a, None)
            elif op == "S" and folders.get(inode, at) is None:
                folders[inode] = at
                under_way.add(at)
            elif op == "F":
                under_way.discard(a)
            if under_way:
                points["first"].append(end)
        return points


class Node:
    """A file, whose bytes on the disk are in `path`; or a folder, whose names on the disk are `names`."""

    def __init__(self, number, path, is_folder=False):
        self.number, self.path, self.size, self.digest, self.pending = number, path, 0, None, []
        self.names = {} if is_folder else None
        if not is_folder:
            open(path, "wb").close()


class Disk:
    """What is on the disk, and what is on its way."""

    def __init__(self, folder, roots, broken=None, names="strict"):
        self.folder, self.broken, self.journal = pathlib.Path(folder), broken, names == "journal"
        self.made, self.unsynced = 0, {}
        # Folders that were there before: the uppermost one ("") and those below it.
        self.nodes = {inode: Node(-number, None, True) for number, inode in enumerate(roots.values())}
        self.kinds = dict.fromkeys(self.nodes.values(), "folder")
        self.root = self.nodes[roots[""]]
        for path, inode in roots.items():
            above, _, name = path.rpartition("/")
            if name:
                self.nodes[roots[above]].names[name] = self.nodes[inode]

    def apply(self, record):
        at, _, op, inode, a, b, name, other, data = record
        if op == "W":
            self.wait(self.nodes[inode], (at, a, data))
        elif op == "T":
            self.wait(self.nodes[inode], (at, a, None))
        elif op == "F":
            node = self.nodes[inode]
            if self.kinds[node] != self.broken:
                self.sync(node, a)
                if self.journal:
                    for folder in [node for node in self.unsynced if node.names is not None]:
                        self.sync(folder, a)
        elif op in "CD":
            self.made += 1
            node = self.nodes[inode] = Node(self.made, self.folder / str(self.made), op == "D")
            is_database = name.startswith("bgfiles.db")
            self.kinds[node] = "folder" if op == "D" else "database" if is_database else "object"
            self.wait(self.nodes[a], (at, None, name, node))
        elif op == "U":
            self.wait(self.nodes[a], (at, name, None, None))
        elif op == "L":
            self.wait(self.nodes[b], (at, None, other, self.nodes[inode]))
        elif op == "R":
            if a != b:
                raise SystemExit("a rename from one folder to another is not understood")
            self.wait(self.nodes[a], (at, name, other, self.nodes[inode]))

    def wait(self, node, change):
        node.pending.append(change)
        self.unsynced[node] = None

    def sync(self, node, before):
        """Everything of it that came before that record is on the disk."""
        changes = [change for change in node.pending if change[0] < before]
        node.pending = node.pending[len(changes):]
        if not node.pending:
            self.unsynced.pop(node, None)
        if node.names is not None:
            rename(node.names, changes)
        elif changes:
            patches, node.size = whole(changes, node.size)
            put(node.path, patches, node.size)
            node.digest = None

    def sync_all(self, before):
        for node in list(self.unsynced):
            self.sync(node, before)

    def tree(self, names, folder=None, above=""):
        """All files with their names, by what `names` says of a folder."""
        for name, node in names(folder or self.root).items():
            if node.names is None:
                yield above + name, node
            else:
                yield from self.tree(names, node, f"{above}{name}/")

    def differences(self, real):
        """Names of files that are not here what they are there; the index of SQLite apart."""
        here = {name: node.path.read_bytes() for name, node in self.tree(lambda folder: folder.names)}
        there = {str(path.relative_to(real)): path for path in real.rglob("*") if path.is_file()}
        there = {name: path for name, path in there.items() if not name.endswith("-shm")}
        same = {name for name in here if name in there and here[name] == there[name].read_bytes()}
        return sorted((here.keys() | there.keys()) - same)


def rename(names, changes):
    for _, gone, came, node in changes:
        if gone:
            names.pop(gone, None)
        if came:
            names[came] = node


def whole(changes, size):
    """Patches for all of these changes, and the size after them."""
    patches = []
    for _, at, data in changes:
        if data is None:
            patches += [(at, bytes(size - at))] if at < size else []
            size = at
        else:
            patches.append((at, data))
            size = max(size, at + len(data))
    return patches, size


def put(path, patches, size):
    fd = os.open(path, os.O_WRONLY)
    for at, data in patches:
        os.pwrite(fd, data, at)
    os.ftruncate(fd, size)
    os.close(fd)


class Cut:
    """One power cut: which of the changes that were on their way have reached the disk."""

    def __init__(self, disk, at, seed):
        self.disk, self.at, self.key = disk, at, f"{seed}:{at}"
        chance = random.Random(self.key)
        self.mode = chance.choice(MODES)
        # For `moment`: everything stops at once, somewhere between the oldest change and the cut.
        self.moment = chance.randint(min((node.pending[0][0] for node in disk.unsynced), default=at), at)
        self.likely, self.stale = chance.choice([0.1, 0.5, 0.9]), chance.random() < 0.5
        self.chosen = {}

    def choose(self, node):
        """A folder's names; a file's patches and size. By a chance of its own, so that it does not
        matter who is asked first."""
        if not node.pending:
            return node.names if node.names is not None else ((), node.size)
        if node not in self.chosen:
            chance = random.Random(f"{self.key}:{node.number}")
            choose = self.content if node.names is None else self.names
            self.chosen[node] = choose(node, chance)
        return self.chosen[node]

    def find(self, path):
        node = self.disk.root
        for name in path.split("/"):
            node = node and self.choose(node).get(name)
        return node

    def names(self, folder, chance):
        names, lost, changes = dict(folder.names), set(), []
        for change in folder.pending:
            touched = {change[1], change[2]} - {None}
            reached = {"none": False, "all": True, "moment": change[0] < self.moment}.get(self.mode)
            if reached is None:
                reached = chance.random() < self.likely
            if reached and not touched & lost:
                changes.append(change)
            else:
                lost |= touched
        rename(names, changes)
        return names

    def content(self, node, chance):
        changes, count = node.pending, len(node.pending)
        if self.mode not in UNITS:
            kept = {"none": 0, "all": count, "files": chance.choice([0, count, chance.randint(0, count)]),
                    "moment": sum(change[0] < self.moment for change in changes)}
            return whole(changes[:kept[self.mode]], node.size)
        unit, sizes, pieces, times = UNITS[self.mode], [node.size], [], {}
        for change in changes:
            patches, size = whole([change], sizes[-1])
            sizes.append(size)
            for at, data in patches:
                begin = 0
                while begin < len(data):
                    number = (at + begin) // unit
                    end = min(len(data), (number + 1) * unit - at)
                    pieces.append((number, at + begin, data[begin:end]))
                    times[number] = times.get(number, 0) + 1
                    begin = end
        # Each page or sector as it was at a moment of its own.
        kept = {n: t if chance.random() < self.likely else chance.randrange(t) for n, t in times.items()}
        stale = {n for n, t in kept.items() if self.stale and not t and n * unit >= node.size}
        patches = []
        for number, at, data in pieces:
            if kept[number] > 0:
                kept[number] -= 1
                patches.append((at, data))
            elif number in stale:
                patches.append((at, STALE[:len(data)]))
        return patches, chance.choice([sizes[-1], chance.choice(sizes)])

    def digest(self, node):
        """[size, SHA-256] of a file as the cut left it."""
        patches, size = self.choose(node)
        if not patches and size == node.size:
            node.digest = node.digest or hashlib.sha256(node.path.read_bytes()).hexdigest()
            return [size, node.digest]
        return [size, hashlib.sha256(self.bytes(node)).hexdigest()]

    def bytes(self, node):
        patches, size = self.choose(node)
        content = bytearray(node.path.read_bytes())
        content.extend(bytes(max([size] + [at + len(data) for at, data in patches])))
        for at, data in patches:
            content[at:at + len(data)] = data
        return content[:size]


class Database:
    """The database as the cut left it, opened as a process does that starts again. In place: what
    the cut adds is taken back afterwards, as a copy for each cut would cost minutes."""

    def __init__(self, cut):
        self.nodes = [node for node in (cut.find(DATABASE), cut.find(DATABASE + "-wal")) if node]
        if not cut.find(DATABASE):
            raise Fault("the database is gone")
        if cut.find(DATABASE + "-journal"):
            raise Fault("the database has a journal beside its log")
        self.cut, self.undo, self.path = cut, [], str(self.nodes[0].path)

    def __enter__(self):
        for node in self.nodes:
            patches, size = self.cut.choose(node)
            touched = [(at, len(data)) for at, data in patches] + [(size, max(0, node.size - size))]
            with open(node.path, "rb") as file:
                before = [(at, os.pread(file.fileno(), min(n, max(0, node.size - at)), at)) for at, n in touched]
            self.undo.append((node, before))
            put(node.path, patches, size)
        if len(self.nodes) > 1:
            os.rename(self.nodes[1].path, self.path + "-wal")
        # Read-only: its log is read as by any process, and stays what it is.
        self.connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
        return self.connection

    def __exit__(self, *_):
        self.connection.close()
        if len(self.nodes) > 1:
            os.rename(self.path + "-wal", self.nodes[1].path)
        if os.path.exists(self.path + "-shm"):
            os.unlink(self.path + "-shm")
        for node, before in self.undo:
            put(node.path, before, node.size)
