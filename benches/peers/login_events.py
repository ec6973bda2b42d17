"""login_events.py ROWS CSV SQLITE: deterministic rows as CSV and as a SQLite file.

The generator is SplitMix64, so that no library's random numbers matter."""

import csv
import sqlite3
import sys
from datetime import datetime, timedelta, timezone

MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
FIRST = (
    "anna bert carla dirk elena femke gijs hanna igor jan karin lars mia noor olaf petra quinten rosa "
    "sven tess ulla victor wendy xander yara zoë jürgen łukasz søren chloé"
).split()
LAST = (
    "jansen de.vries van.den.berg bakker visser smit meijer mulder bos vos peters hendriks dekker "
    "dijkstra kok jacobs vermeulen müller schmidt o'brien garcía d&g"
).split()
SYSTEMS = [
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "Linux; Android 14; Pixel 8",
    "iPhone; CPU iPhone OS 17_5 like Mac OS X",
]
AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in SYSTEMS
    for version in range(110, 150)
]
COUNTRIES = "NL DE FR GB US ES IT PL SE NO DK FI BE AT CH PT IE CZ HU RO".split()
BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)
TABLE = (
    "CREATE TABLE login_events (id integer PRIMARY KEY, user_id integer, username text, ip text, "
    "user_agent text, succeeded integer, country text, amount text, score real, created_at text)"
)


def numbers():
    state = STEP
    while True:
        state = (state + STEP) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def events(count):
    random = numbers()
    for i in range(1, count + 1):
        a, b, c = next(random), next(random), next(random)
        at = BEGIN + timedelta(seconds=i * 37, microseconds=(c >> 4) % 1_000_000)
        yield (
            i,
            None if a % 20 == 0 else (a >> 8) % 50_000 + 1,
            f"{FIRST[(a >> 24) % len(FIRST)]}.{LAST[(a >> 32) % len(LAST)]}{(a >> 40) % 1000}",
            f"{(b & 255) % 223 + 1}.{b >> 8 & 255}.{b >> 16 & 255}.{b >> 24 & 255}",
            AGENTS[(b >> 32) % len(AGENTS)],
            int((b >> 44) % 10 != 0),
            COUNTRIES[(b >> 50) % len(COUNTRIES)],
            f"{(c % 100_000_000) / 100:.2f}",
            (c >> 11) / (1 << 53),
            at.isoformat(),
        )


def main(count, path, database):
    db = sqlite3.connect(database)
    db.execute(TABLE)
    with open(path, "w", newline="", encoding="utf8") as file:
        write = csv.writer(file, lineterminator="\n").writerow

        def rows():
            for row in events(count):
                write(row)
                yield row

        db.executemany("INSERT INTO login_events VALUES (?,?,?,?,?,?,?,?,?,?)", rows())
    db.commit()
    db.execute("VACUUM")


main(int(sys.argv[1]), *sys.argv[2:])
