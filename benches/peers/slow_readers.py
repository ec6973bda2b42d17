"""slow_readers.py HOST PORT PATH COUNT: COUNT downloads at once, each a KB every five seconds at most.

Prints how many were answered 200, and goes on reading until it is ended."""

import socket
import sys
import time

host, port, path, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
REQUEST = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
PAUSE = 5


def connect():
    reader = socket.socket()
    # Small, so that what is not read waits in the server.
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((host, port))
    reader.sendall(REQUEST)
    return reader


def read(reader):
    try:
        return reader.recv(1024)
    except BlockingIOError:
        return None


readers, answered = [], 0
for _ in range(count):
    reader = connect()
    answered += reader.recv(1024).startswith(b"HTTP/1.1 200")
    reader.setblocking(False)
    readers.append(reader)
print(answered, flush=True)
while True:
    for reader in readers:
        read(reader)
        time.sleep(PAUSE / count)
