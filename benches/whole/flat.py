"""Whether a long history and a long queue make bgfiles slower: the same figures on full tables."""

import time

from . import env, queries, results, service
from .load import Sink, wrk
from .service import Service

HISTORY = """INSERT INTO bgfiles_file_requests (file_type, format, status, requester, requester_email, notify,
generation, attempts, size, rows, requested_at, run_at, started_at, finished_at, expires_at)
SELECT 'tiny', 'xlsx', 'finished', 'user-' || i % 1000, 'a@example.org', false, 1, 1, 6000, 10,
at, at, at, at, now() + interval '1 day'
FROM generate_series(1, {}) i, LATERAL (SELECT now() - i * interval '1 second' AS at) t"""
BACKLOG = """INSERT INTO bgfiles_file_requests (file_type, format, requester, requester_email)
SELECT 'tiny', 'xlsx', 'user-' || i % 1000, 'a@example.org' FROM generate_series(1, {}) i"""
COLUMNS = ["enqueued/s", "enqueue p99 ms", "pick-up p50 ms", "pick-up p99 ms", "made and mailed/s"]
NOTE = (
    "PostgreSQL. Rows of the history and the backlog are inserted by SQL. Enqueueing: the worker is off. "
    "Made and mailed: of the backlog, within a few seconds. The plans are in "
    "`docs/plans`, taken with history and backlog."
)


def run(data, sizes):
    service.define_all(data)
    history, backlog = f"{sizes.history:,} finished", f"{sizes.backlog:,} pending"
    rows = {}
    with Sink() as sink:
        mail = {"BGFILES_MAIL": f"smtp://127.0.0.1:{sink.port}?tls=none"}
        for name, finished in {"nothing else": 0, history: sizes.history}.items():
            print(name, flush=True)
            with Service(data, "PostgreSQL", **mail) as ours:
                fill(data, HISTORY.format(finished))
                rows[name] = measure(ours, sizes)
        print(f"{history}, {backlog}", flush=True)
        with Service(data, "PostgreSQL", **mail) as ours:
            fill(data, HISTORY.format(sizes.history))
            fill(data, BACKLOG.format(sizes.backlog))
            queries.explain(data)
            rows[f"{history}, {backlog}"] = measure_backlog(ours, sink, sizes)
        with Service(data, "PostgreSQL", **mail) as ours:
            fill(data, BACKLOG.format(sizes.backlog))
            rows[backlog] = measure_backlog(ours, sink, sizes)
    return [results.table("With many rows there", COLUMNS, rows, NOTE)]


def fill(data, sql):
    data.psql(sql, "bgfiles")
    data.psql("VACUUM (ANALYZE) bgfiles_file_requests", "bgfiles")


def enqueue(ours, sizes):
    address = f"http://127.0.0.1:{ours.port}{ours.path}"
    said = wrk(address, 8, sizes.load_seconds, ours.headers, ours.body)
    return [said["rate"], said["p99"]]


def measure(ours, sizes):
    worker = ours.start_worker()
    waits = ours.pick_up(sizes.lone)
    env.stop(worker)
    return [*enqueue(ours, sizes), *waits, None]


def measure_backlog(ours, sink, sizes):
    recorded, before = enqueue(ours, sizes), len(sink.arrivals())
    worker = env.start(env.BIN, "worker", environ=ours.environ, log="worker")
    try:
        began = sink.wait(before + 1)
        time.sleep(4 * sizes.load_seconds)
        arrivals = sink.arrivals()
        return [*recorded, None, None, (len(arrivals) - before) / (arrivals[-1] - began)]
    finally:
        env.stop(worker)
