"""The other side of what takes two processes: `python -m strongroom.bench.platform.peer pipe|tcp`.

`pipe`: every byte of standard input comes back on standard output. `tcp`: a port of 127.0.0.1 is printed, and one connection is served:
requests of nine bytes, a letter and a big-endian count: `e` gives back so many single bytes, `s` takes so many and answers with one.
Knows: that. Does not know: what is measured. Ends with its input.
"""

from __future__ import annotations

import os
import socket
import sys

HEAD = 9
BLOCK = 1 << 20


def pipe() -> None:
    """Give back what comes."""
    while byte := os.read(0, 1):
        os.write(1, byte)


def tcp() -> None:
    """Serve one connection until it ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.write(1, b"%d\n" % server.getsockname()[1])
        connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (head := connection.recv(HEAD, socket.MSG_WAITALL)) and len(head) == HEAD:
            count = int.from_bytes(head[1:], "big")
            if head[:1] == b"e":
                echo(connection, count)
            else:
                sink(connection, count)


def echo(connection: socket.socket, count: int) -> None:
    """So many bytes, one by one."""
    for _ in range(count):
        connection.sendall(connection.recv(1))


def sink(connection: socket.socket, count: int) -> None:
    """Take so many bytes, then answer with one."""
    buffer = bytearray(BLOCK)
    while count:
        taken = connection.recv_into(buffer, min(count, BLOCK))
        if not taken:
            return
        count -= taken
    connection.sendall(b".")


if __name__ == "__main__":
    {"pipe": pipe, "tcp": tcp}[sys.argv[1]]()
