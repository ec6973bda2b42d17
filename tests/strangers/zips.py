"""Checks of the ZIP itself, by its local headers and by programs that read them."""
import re
import struct
import subprocess
import zipfile


def run(command, timeout, stdin=subprocess.DEVNULL):
    done = subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def failed(command, timeout):
    code, said = run(command, timeout)
    if code:
        lines = [line for line in said.splitlines() if not line.strip().endswith("OK")]
        return f"exit {code}: " + " / ".join(lines[-3:])
    return None


def unzip(file, timeout):
    return failed(["unzip", "-tqq", file], timeout)


def zip_test(file, timeout):
    return failed(["zip", "-qT", file], timeout)


def bsdtar(file, timeout):
    """Reads from a pipe, so from local headers alone."""
    whole = subprocess.Popen(["cat", file], stdout=subprocess.PIPE)
    code, said = run(["bsdtar", "-tf", "-"], timeout, whole.stdout)
    whole.stdout.close()
    whole.wait()
    with zipfile.ZipFile(file) as package:
        names = package.namelist()
    listed = said.splitlines()
    if code or listed != names:
        missing = [name for name in names if name not in listed]
        return f"exit {code}, {len(names) - len(missing)} of {len(names)} members listed; missing: {', '.join(missing[:3])}"
    return None


def zip64(extra, sizes):
    """The sizes, with those that the ZIP64 field has."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == 1:
            sizes, at = list(sizes), 0
            for i, size in enumerate(sizes):
                if size == 0xFFFFFFFF:
                    (sizes[i],) = struct.unpack_from("<Q", body, at)
                    at += 8
            return tuple(sizes), True
    return tuple(sizes), False


def headers(file):
    """A local header has the member's CRC and sizes, or says that a descriptor follows, and one does."""
    with open(file, "rb") as raw, zipfile.ZipFile(file) as package:
        members = sorted(package.infolist(), key=lambda member: member.header_offset)
        ends = [member.header_offset for member in members[1:]] + [package.start_dir]
        for member, end in zip(members, ends):
            raw.seek(member.header_offset)
            signature, _, flags, _, _, _, crc, packed, size, name, extra = struct.unpack("<IHHHHHIIIHH", raw.read(30))
            raw.read(name)
            (size, packed), large = zip64(raw.read(extra), (size, packed))
            wanted = (member.CRC, member.compress_size, member.file_size)
            where = f"member {member.filename!r}"
            if signature != 0x04034B50:
                return f"{where}: no local header at its offset"
            if flags & 8 != member.flag_bits & 8:
                return f"{where}: bit 3 differs between local header and directory"
            raw.seek(member.compress_size, 1)
            rest = raw.read(end - raw.tell()) if end - raw.tell() < 1024 else b"x" * 1024
            if not flags & 8:
                if (crc, packed, size) != wanted:
                    return f"{where}: the local header has {(crc, packed, size)}, not {wanted}"
                if rest:
                    return f"{where}: {len(rest)} bytes behind it belong to nothing"
                continue
            if (crc, packed, size) not in ((0, 0, 0), wanted):
                return f"{where}: streamed, and the local header has {(crc, packed, size)}"
            if not rest:
                return f"{where}: bit 3 is set, and no data descriptor follows"
            layout = "<IIQQ" if large else "<IIII"
            if len(rest) != struct.calcsize(layout) or struct.unpack(layout, rest) != (0x08074B50, *wanted):
                return f"{where}: the data descriptor is wrong: {rest[:24].hex()}"
    return None


def zipdetails(file, timeout):
    """A streamed member has bit 3 and a STREAMING DATA HEADER; any other has neither, and its lengths."""
    code, said = run(["/usr/bin/zipdetails", file], timeout)
    if code or "LOCAL HEADER #1" not in said:
        return f"exit {code}: {said[-300:]}"
    parts = re.split(r"(?=\bLOCAL HEADER #[0-9A-F]+ )", said.split("CENTRAL HEADER #1")[0])[1:]
    with zipfile.ZipFile(file) as package:
        members = len(package.infolist())
    if len(parts) != members:
        return f"{len(parts)} local headers for {members} members"
    for part in parts:
        name = re.search(r"Filename +'(.*)'", part)
        where = f"member {name[1] if name else '?'}"
        flags = int(re.search(r"General Purpose Flag +([0-9A-F]+)", part)[1], 16)
        header = part.split("STREAMING DATA HEADER")[0]
        follows = "STREAMING DATA HEADER" in part
        if bool(flags & 8) != follows:
            return f"{where}: bit 3 is {'set' if flags & 8 else 'clear'}, and a STREAMING DATA HEADER {'follows' if follows else 'does not follow'}"
        packed = int(re.search(r"Compressed (?:Length|Size) +([0-9A-F]+)", header)[1], 16)
        if not flags & 8 and packed == 0 and "PAYLOAD" in header:
            return f"{where}: no lengths in the local header"
    return headers(file)
