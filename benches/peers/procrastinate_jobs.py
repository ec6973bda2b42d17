"""procrastinate: jobs deferred one by one, worked off, and lone ones; prints the figures as JSON."""

import asyncio
import json
import logging
import os
import time

import procrastinate

JOBS, LONE = int(os.environ["JOBS"]), int(os.environ["LONE"])
logging.disable(logging.CRITICAL)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DSN"], min_size=4, max_size=30))
waits, arrived = [], asyncio.Event()


@app.task(name="noop")
async def noop(at=None):
    if at:
        waits.append(1000 * (time.monotonic() - at))
        arrived.set()


def worker(concurrency, wait):
    return app.run_worker_async(
        concurrency=concurrency, wait=wait, install_signal_handlers=False, delete_jobs="successful"
    )


async def enqueued():
    left = iter(range(JOBS))

    async def work():
        for _ in left:
            await noop.defer_async()

    began = time.monotonic()
    await asyncio.gather(*[work() for _ in range(16)])
    return JOBS / (time.monotonic() - began)


async def worked():
    began = time.monotonic()
    await worker(24, wait=False)
    return JOBS / (time.monotonic() - began)


async def lone():
    working = asyncio.create_task(worker(2, wait=True))
    await asyncio.sleep(1)
    for _ in range(LONE):
        arrived.clear()
        await noop.defer_async(at=time.monotonic())
        await arrived.wait()
        await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    waits.sort()
    return [waits[LONE // 2], waits[int(LONE * 0.99)]]


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        print(json.dumps([await enqueued(), await worked(), *await lone()]))


asyncio.run(main())
