"""smtp_sink.py PORT LOG: takes every mail; a line of LOG for each: when it came (CLOCK_MONOTONIC).

As little as a mail needs (RFC 5321), as it runs beside what it helps to measure. It offers what all
widespread servers offer (RFC 2920, 6152, 6531).
"""

import asyncio
import sys
import time

log = open(sys.argv[2], "w", buffering=1)


class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.got, self.in_data = transport, b"", False
        transport.write(b"220 sink\r\n")

    def data_received(self, data):
        self.got += data
        answers = []
        while True:
            end = b"\r\n.\r\n" if self.in_data else b"\r\n"
            piece, found, rest = self.got.partition(end)
            if not found:
                break
            self.got = rest
            answers.append(self.answer(piece))
        if answers:
            self.transport.write(b"".join(answers))

    def answer(self, piece):
        if self.in_data:
            self.in_data = False
            log.write(f"{time.monotonic():.6f}\n")
            return b"250 taken\r\n"
        command = piece[:4].upper()
        if command == b"EHLO":
            return b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
        if command == b"DATA":
            self.in_data = True
            return b"354 go on\r\n"
        if command == b"QUIT":
            asyncio.get_running_loop().call_soon(self.transport.close)
            return b"221 bye\r\n"
        return b"250 yes\r\n"


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", int(sys.argv[1]), backlog=512)
    await server.serve_forever()


asyncio.run(main())
