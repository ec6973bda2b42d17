#!/usr/bin/env python3
"""Plays a page of the book, or README.md, as a reader would: in one shell, in an empty folder.

    play.py PAGE [SECTION...]        the whole page, or these sections of it, in this order

What a page says is marked by its fences:

    ```sh                            typed; a command that fails ends the play
    ```sh eventually                 typed again and again, until it succeeds and prints what the page says
    ```sh fails                      typed; it has to fail
    ```text                          what the block before it prints, on standard output, on standard
                                     error or on both; `…` stands for any text, on a line of its own for
                                     any lines
    ```sql run                       given to the database of bgfiles
    `path`:                          before a fence: the text of that file

All other fences are only shown. Two things differ from what a reader does. The ports 8000 and 3000 are
free ones instead, and after a command ends in `&` the play waits until the port is open, as typing takes
a moment. `cargo` makes an empty folder (`new`), believes what it is told (`add`) and runs what was built
from the page's `src/main.rs` (`run`), which is compared with the example of that name; with --cargo it is the
real one.
"""

import argparse
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATH = re.compile(r"^`([^`/][^`]*)`:$")
FENCE = re.compile(r"^```(\w*) ?(.*)$")
HEADING = re.compile(r"^##+ (.*)$")
PATIENCE = float(os.environ.get("BGFILES_TEST_PATIENCE", "1"))
CARGO = """#!/bin/bash
case $1 in
  new) mkdir -p "$2/src" ;;
  add) ;;
  run) shift; [ "${1:-}" != -- ] || shift; exec "$EXAMPLE" "$@" ;;
  *) echo "cargo $1?" >&2; exit 2 ;;
esac
"""


class Wrong(Exception):
    pass


def steps(text, sections):
    """(line, kind, how, text) for each thing that the page says to do."""
    found, section, path, lines = [], "", None, enumerate(text.splitlines(), 1)
    for number, line in lines:
        if match := HEADING.match(line):
            section = match[1].strip()
        elif match := PATH.match(line):
            path = match[1]
        elif match := FENCE.match(line):
            inner = []
            for _, one in lines:
                if one == "```":
                    break
                inner.append(one)
            else:
                raise Wrong(f"line {number}: a fence without an end")
            body = "".join(one + "\n" for one in inner)
            kind = "file" if path else match[1]
            if (kind, match[2]) == ("sql", "run"):
                kind, path, body = "sh", "", "run_sql <<'EOF'\n" + body + "EOF\n"
            if kind in ("file", "sh", "text"):
                found.append((section, (number, kind, match[2] if path is None else path, body)))
            path = None
        elif line.strip() and path:
            raise Wrong(f"line {number}: no text follows {path}")
    if not sections:
        return [step for _, step in found]
    for name in sections:
        if not any(section == name for section, _ in found):
            raise Wrong(f"there is nothing to do in a section {name!r}")
    return [step for name in sections for section, step in found if section == name]


def matches(pattern, seen):
    """Whether a text is what a page says."""
    expression = ""
    for line in pattern.splitlines():
        if line.strip() == "…":
            expression += r"(?:.*\n)*?"
        else:
            expression += ".*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n"
    seen = seen.replace("\r", "")
    return re.fullmatch(expression, seen if seen.endswith("\n") or not seen else seen + "\n") is not None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Shell:
    """A shell that goes on from block to block."""

    def __init__(self, bgfiles, example, cargo, database):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="bgfiles-play-"))
        self.notes, programs, self.folder = self.home / "notes", self.home / "bin", self.home / "home"
        for folder in (self.notes, programs, self.folder):
            folder.mkdir()
        (programs / "bgfiles").symlink_to(bgfiles)
        # A first build takes its time.
        self.begins = 3600 if cargo else 60
        self.ports = {"8000": free_port(), "3000": free_port()}
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("BGFILES_", "CARGO", "RUST", "NEXTEST", "PG")) and name != "DATABASE_URL"}
        env.update(PATH=f"{programs}:{env['PATH']}", HOME=str(self.folder), LC_ALL="C.UTF-8", TZ="UTC",
                   BGFILES_BIND=f"127.0.0.1:{self.ports['8000']}", BGFILES_BASE_URL=f"http://localhost:{self.ports['8000']}",
                   BIND=f"127.0.0.1:{self.ports['3000']}")
        if cargo:
            # What it has downloaded and built before.
            env.update(CARGO_HOME=os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo")),
                       RUSTUP_HOME=os.environ.get("RUSTUP_HOME", os.path.expanduser("~/.rustup")),
                       CARGO_TARGET_DIR=str(ROOT / "target/new-crate"))
            (self.folder / "bgfiles").symlink_to(ROOT)
        else:
            env["EXAMPLE"] = str(example or "/bin/false")
            (programs / "cargo").write_text(CARGO)
            (programs / "cargo").chmod(0o755)
        if database:
            env["DATABASE_URL"] = database
        sql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", database] if database else ["sqlite3", "-cmd", ".timeout 10000", "bgfiles.db"]
        (programs / "run_sql").write_text(f"#!/bin/sh\nexec {shlex.join(sql)}\n")
        (programs / "run_sql").chmod(0o755)
        self.bash = subprocess.Popen(["bash", "--noprofile", "--norc", "-euo", "pipefail"], cwd=self.folder, env=env,
                                     stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     text=True, start_new_session=True)
        self.count = 0

    def here(self, text):
        """With the ports of this play."""
        return re.sub(r"\b(localhost|127\.0\.0\.1):(8000|3000)\b", lambda m: f"{m[1]}:{self.ports[m[2]]}", text)

    def run(self, text, seconds=120, may_fail=False):
        """Exit code, standard output, standard error, both."""
        self.count += 1
        at = self.notes / str(self.count)
        script, out, err, done = (at.with_suffix(f".{kind}") for kind in ("sh", "out", "err", "done"))
        script.write_text(self.here(text))
        run = f". {script} </dev/null >{out} 2>{err}"
        line = f"if {run}; then code=0; else code=$?; fi; echo $code >{done}\n" if may_fail else f"{run}; echo 0 >{done}\n"
        self.bash.stdin.write(line)
        self.bash.stdin.flush()
        end = time.monotonic() + seconds * PATIENCE
        while not (done.exists() and done.read_text().strip()):
            if self.bash.poll() is not None:
                break
            if time.monotonic() > end:
                raise Wrong(f"not done within {seconds} s:\n{text}\n{out.read_text()}{err.read_text()}")
            time.sleep(0.01)
        code = int(done.read_text()) if done.exists() else self.bash.wait()
        out, err = (file.read_text(errors="replace") if file.exists() else "" for file in (out, err))
        if re.search(r"&\s*$", text, re.M):
            self.wait_for(text)
        return code, out, err

    def wait_for(self, text):
        """Until what was put into the background listens, if it does."""
        port = self.ports["8000"] if "bgfiles web" in text else self.ports["3000"] if "cargo run" in text else None
        end = time.monotonic() + self.begins * PATIENCE
        while port and time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        if port:
            raise Wrong(f"nothing listens after\n{text}{''.join(file.read_text() for file in sorted(self.notes.glob('*.err')))}")

    def close(self):
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.bash.pid, how)
            except ProcessLookupError:
                break
            time.sleep(0.2)
        self.bash.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def tell(page, number, what, out, err, said=None):
    more = f"\nit says:\n{said}" if said is not None else ""
    return Wrong(f"{page}:{number}: {what}{more}\nstandard output:\n{out}\nstandard error:\n{err}")


def play(page, todo, shell, source):
    for at, (number, kind, how, body) in enumerate(todo):
        if kind == "file":
            if how == "src/main.rs" and source:
                compare(page, number, body, source)
            note = shell.notes / f"file-{number}"
            note.write_text(shell.here(body))
            shell.run(f"mkdir -p {shlex.quote(os.path.dirname(how) or '.')}; cp {note} {shlex.quote(how)}")
        elif kind == "sh":
            said = shell.here(todo[at + 1][3]) if at + 1 < len(todo) and todo[at + 1][1] == "text" else None
            end = time.monotonic() + 60 * PATIENCE
            while True:
                code, out, err = shell.run(body, seconds=3600, may_fail=bool(how))
                failed = (code == 0) if how == "fails" else (code != 0)
                good = said is None or any(matches(said, seen) for seen in (out, err, out + err, err + out))
                if how != "eventually" or (good and not failed) or time.monotonic() > end:
                    break
                time.sleep(0.1)
            if failed:
                raise tell(page, number, f"exit {code}", out, err)
            if not good:
                raise tell(page, number, "it prints something else", out, err, said)


def compare(page, number, body, source):
    """The page's program is the example, which has a line about itself on top."""
    example = "".join(line for line in source.read_text().splitlines(keepends=True) if not line.startswith("//!")).lstrip("\n")
    if body != example:
        raise Wrong(f"{page}:{number}: {source.relative_to(ROOT)} is another program")


def self_test():
    """That a page which is wrong is found to be so."""
    assert matches("a … c\n…\nend\n", "a b c\n1\n2\nend\n") and matches("…\nend\n", "end\n")
    assert not matches("a … c\n", "a b d\n") and not matches("end\n", "more\nend\n") and not matches("a\n…\n", "")
    wrong = ["```sh\nfalse\n```\n", "```sh\necho a\n```\n\n```text\nb\n```\n", "```sh fails\ntrue\n```\n",
             "`a`:\n\nno text\n", "```sh\necho a\n"]
    right = "`a/b`:\n\n```text\nx\n```\n\n```sh\ncd a\nX=$(cat b)\n```\n\n```sh\necho $X; echo y >&2\n```\n\n```text\nx\ny\n```\n"
    for text in [*wrong, right]:
        shell = Shell(pathlib.Path("/bin/true"), None, False, None)
        try:
            play("page", steps(text, []), shell, None)
            assert text == right, text
        except Wrong as why:
            assert text != right, why
        finally:
            shell.close()


def main():
    if "--self-test" in sys.argv:
        return self_test()
    # What runs in the background ends with the play, however that ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", metavar="PAGE", help="README.md, or a page below docs/src")
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--bgfiles", type=pathlib.Path, metavar="PATH", help="the binary (target/release/bgfiles, else target/debug/bgfiles)")
    parser.add_argument("--example", default="", metavar="NAME=PATH", help="what `cargo run` runs: built from examples/NAME.rs")
    parser.add_argument("--database", metavar="URL", help="an empty PostgreSQL database instead of SQLite")
    parser.add_argument("--cargo", action="store_true", help="the real cargo")
    options = parser.parse_args()
    built = [ROOT / "target" / kind / "bgfiles" for kind in ("release", "debug")]
    bgfiles = next((path.resolve() for path in ([options.bgfiles] if options.bgfiles else built) if path.exists()), None)
    if not bgfiles:
        raise SystemExit("play: there is no bgfiles; cargo build --release makes it")
    name, _, example = options.example.partition("=")
    source = ROOT / "examples" / f"{name}.rs" if name else None
    page = ROOT / (options.page if options.page == "README.md" else f"docs/src/{options.page}")
    shell = Shell(bgfiles, example, options.cargo, options.database)
    try:
        todo = steps(page.read_text(), options.sections)
        play(options.page, todo, shell, source)
    except Wrong as wrong:
        print(f"FAIL {wrong}")
        return 1
    finally:
        shell.close()
    print(f"ok   {options.page}: {len(todo)} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
