"""smtp_sink.py PORT LOG: takes every mail; a line of LOG for each: when it came (CLOCK_MONOTONIC)."""

import asyncio
import sys
import time

from aiosmtpd.smtp import SMTP

log = open(sys.argv[2], "w", buffering=1)


class Sink:
    async def handle_DATA(self, server, session, envelope):
        log.write(f"{time.monotonic():.6f}\n")
        return "250 OK"


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Sink(), hostname="sink"), "127.0.0.1", int(sys.argv[1]), backlog=512)
    await server.serve_forever()


asyncio.run(main())
