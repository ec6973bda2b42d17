#!/usr/bin/env bash
# The Rust crate zip 9.4.1 copies a compressed entry into a streamed archive and leaves out its data descriptor.
#
# ZipWriter::new_stream writes to something that cannot seek. Each local header has bit 3 of its flags, which
# promises that the sizes follow the data, and says 0 for both sizes. An entry that the writer compresses itself
# keeps the promise. An entry that raw_copy_file hands over breaks it: the next header follows the data at once.
# The writer reports no error.
#
# The surprise has two parts. The sizes are known before the copy begins, so nothing had to be promised. And an
# archive looks whole to the usual test: Python's zipfile goes by the central directory and reads every byte.
# Readers that take an archive from its beginning cannot: stream-unzip and Java's ZipInputStream take the central
# directory for the descriptor and refuse.
#
# Version 9.8.2 writes the descriptor, as the last lines show.
#
# Needs cargo, python3 and, for one more reader, java 11 or newer.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export CARGO_TARGET_DIR="$folder/target"

mkdir src
cat >src/main.rs <<'RUST'
use std::io::{Cursor, Write};
use zip::{write::SimpleFileOptions, CompressionMethod, ZipArchive, ZipWriter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prefix = std::env::args().nth(1).unwrap();
    let text = "one line of many\n".repeat(500);
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);

    let mut seekable = ZipWriter::new(Cursor::new(Vec::new()));
    seekable.start_file("text.txt", deflated)?;
    seekable.write_all(text.as_bytes())?;
    let source = seekable.finish()?.into_inner();

    let mut stream = ZipWriter::new_stream(Vec::new());
    stream.start_file("text.txt", deflated)?;
    stream.write_all(text.as_bytes())?;
    std::fs::write(format!("{prefix}-compressed.zip"), stream.finish()?.into_inner())?;

    let mut archive = ZipArchive::new(Cursor::new(&source))?;
    let mut stream = ZipWriter::new_stream(Vec::new());
    stream.raw_copy_file(archive.by_index_raw(0)?)?;
    std::fs::write(format!("{prefix}-copied.zip"), stream.finish()?.into_inner())?;
    std::fs::write(format!("{prefix}-source.zip"), source)?;
    Ok(())
}
RUST

for version in 9.4.1 9.8.2; do
    cat >Cargo.toml <<TOML
[package]
name = "copy"
version = "0.0.0"
edition = "2021"

[dependencies]
zip = { version = "=$version", default-features = false, features = ["deflate-flate2-zlib-rs"] }
TOML
    rm -f Cargo.lock
    nice -n 10 cargo run --quiet -- "$version"
done

python3 -m venv env
env/bin/pip --quiet --disable-pip-version-check install stream-unzip==0.0.101

cat >Read.java <<'JAVA'
import java.io.FileInputStream;
import java.util.zip.ZipException;
import java.util.zip.ZipInputStream;

public class Read {
    public static void main(String[] names) throws Exception {
        try (ZipInputStream zip = new ZipInputStream(new FileInputStream(names[0]))) {
            zip.getNextEntry();
            System.out.print(zip.readAllBytes().length + " bytes");
        } catch (ZipException e) {
            System.out.print("ZipException");
        }
    }
}
JAVA

cat >look.py <<'PYTHON'
import shutil
import struct
import subprocess
import sys
import zipfile
from importlib.metadata import version

from stream_unzip import UnzipError, stream_unzip


def header(name):
    """Gives bit 3, both sizes in the local header, and whether a descriptor follows the data."""
    data = open(name, "rb").read()
    with zipfile.ZipFile(name) as archive:
        packed = archive.infolist()[0].compress_size
    flags, small, large, name_length, extra_length = struct.unpack("<6xH10xIIHH", data[:30])
    end = 30 + name_length + extra_length + packed
    return flags >> 3 & 1, small, large, data[end : end + 4] == b"PK\x07\x08"


def by_directory(name):
    with zipfile.ZipFile(name) as archive:
        return f"{len(archive.read('text.txt'))} bytes"


def by_stream(name):
    try:
        with open(name, "rb") as file:
            return f"{sum(len(chunk) for _, _, chunks in stream_unzip(file) for chunk in chunks)} bytes"
    except UnzipError as error:
        return type(error).__name__


def by_java(name):
    return subprocess.run(["java", "Read.java", name], check=True, capture_output=True, text=True).stdout


readers = {"zipfile": by_directory, "stream-unzip": by_stream}
if shutil.which("java"):
    readers["ZipInputStream"] = by_java
print("Python", sys.version.split()[0], "| stream-unzip", version("stream-unzip"), "| java", shutil.which("java") is not None)

whole = "8500 bytes"
promised_and_kept = (1, 0, 0, True)
promised_and_broken = (1, 0, 0, False)
seen = [
    ("9.4.1-source.zip", None, {}),
    ("9.4.1-compressed.zip", promised_and_kept, {}),
    ("9.4.1-copied.zip", promised_and_broken, {"stream-unzip": "CRC32IntegrityError", "ZipInputStream": "ZipException"}),
    ("9.8.2-compressed.zip", promised_and_kept, {}),
    ("9.8.2-copied.zip", promised_and_kept, {}),
]
changed = False
for name, expected, refusals in seen:
    found = header(name)
    print(f"zip {name}: bit 3 is {found[0]}, sizes {found[1]} and {found[2]}, descriptor {'there' if found[3] else 'missing'}")
    changed |= expected is not None and found != expected
    for reader, read in readers.items():
        result = read(name)
        print(f"    {reader}: {result}")
        changed |= result != refusals.get(reader, whole)
sys.exit("The behaviour has changed." if changed else 0)
PYTHON
env/bin/python look.py
