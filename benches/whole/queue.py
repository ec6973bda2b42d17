"""Requests recorded, picked up, made and mailed, beside Django with Celery."""

import statistics
import time

from . import queue_peers, results, service
from .data import DATABASES
from .django import Site
from .load import Poster, Sink, posting, wrk
from .service import Service
from .timing import spread

CONNECTIONS = 32
MIDDLE = "Medians of the rounds. The worker is off. {} connections post ten-row exports."
LONE = "An idle machine: one ten-row export after the other, each as XLSX, each with its mail."
REST = "Processor time of processes that nobody asks anything, over {} s: % of a core."
BURST = "Ten-row exports posted by 4 connections; from the first post to the last mail. Medians of the rounds."


def run(data, sizes):
    service.define_all(data)
    tables = {"enqueue": {}, "lone": {}, "burst": {}, "idle": {}, "rest": {}}
    with Sink() as sink:
        mail = {"BGFILES_MAIL": f"smtp://127.0.0.1:{sink.port}?tls=none"}
        for database in DATABASES:
            measure(f"bgfiles, {database}", lambda: Service(data, database, **mail), sink, sizes, tables)
        measure(Site.name, lambda: Site(data, sink.port), sink, sizes, tables)
    return [*render(tables, sizes), *queue_peers.run(data, sizes)]


def measure(name, new, sink, sizes, tables):
    print(name, flush=True)
    with new() as stack:
        tables["enqueue"][name] = enqueue(stack, sizes)
    with new() as stack:
        stack.start_worker()
        time.sleep(2)
        idle = [stack.web.pss(), stack.worker.pss()]
        tables["rest"][name] = rest(stack, sizes.rest_seconds)
        tables["lone"][name] = [*lone(stack, sink, sizes.lone), *stack.pick_up(sizes.lone)]
        bursts = [burst(stack, sink, sizes.burst) for _ in range(sizes.rounds)]
        tables["burst"][name] = [statistics.median(column) for column in zip(*bursts)]
        tables["idle"][name] = [*idle, sum(idle), stack.web.pss(), stack.worker.pss()]


def rest(stack, seconds):
    """Percent of a core: web, worker, both."""
    before = [stack.web.on_cpu(), stack.worker.on_cpu()]
    time.sleep(seconds)
    used = [100 * (tree.on_cpu() - was) / seconds for tree, was in zip([stack.web, stack.worker], before)]
    return [*used, sum(used)]


def enqueue(stack, sizes):
    """Requests a second, p50 and p99 in ms."""
    said = [wrk(stack.address(), CONNECTIONS, sizes.load_seconds, stack.headers, stack.body) for _ in range(sizes.rounds)]
    return [statistics.median(figures[what] for figures in said) for what in ("rate", "p50", "p99")]


def lone(stack, sink, count):
    """POST to answer and POST to mail, ms: p50 and p99 each."""
    poster, answered, mailed = Poster(stack), [], []
    for i in range(count + 5):
        before = len(sink.arrivals())
        began = time.monotonic()
        poster.post()
        answered.append(1000 * (time.monotonic() - began))
        mailed.append(1000 * (sink.wait(before + 1) - began))
        # Not in step with any tick.
        time.sleep(0.05 + 0.0137 * (i % 7))
    # The first ones warm up.
    return [*spread(answered[5:]), *spread(mailed[5:])]


def burst(stack, sink, count):
    """Exports a second to the last mail, and CPU milliseconds of each, of web and of worker."""
    before, web, worker = len(sink.arrivals()), stack.web.cpu(), stack.worker.cpu()
    began = time.monotonic()
    with posting(stack, count):
        seconds = sink.wait(before + count) - began
    # Those that were on their way when it was enough.
    time.sleep(1)
    cpu = [1000 * (stack.web.cpu() - web) / count, 1000 * (stack.worker.cpu() - worker) / count]
    return [count / seconds, seconds, *cpu]


def render(tables, sizes):
    return [
        results.table(
            "Recording requests", ["requests/s", "p50 ms", "p99 ms"], tables["enqueue"], MIDDLE.format(CONNECTIONS)
        ),
        results.table(
            f"A lone export, {sizes.lone} times",
            ["answer p50 ms", "answer p99 ms", "mail p50 ms", "mail p99 ms", "pick-up p50 ms", "pick-up p99 ms"],
            tables["lone"],
            LONE,
        ),
        results.table(
            f"Exports at once, {sizes.burst:,}",
            ["exports/s", "seconds", "web CPU ms each", "worker CPU ms each"],
            tables["burst"],
            BURST,
        ),
        results.table("At rest", ["web %", "worker %", "both %"], tables["rest"], REST.format(sizes.rest_seconds)),
        results.table(
            "Memory of all processes of a stack, PSS",
            ["web MiB, idle", "worker MiB, idle", "both MiB, idle", "web MiB, after load", "worker MiB, after load"],
            tables["idle"],
            "Without Redis and PostgreSQL.",
        ),
    ]
