"""The network's software: round trips and bandwidth of TCP over loopback, between two cores.

Knows: that no card and no host takes part here: it is the guest kernel's own work and the wake-ups in it. Does not know: networks.
Not covered: virtio and its bounce buffers, which only traffic that leaves the machine shows.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack

from strongroom.bench.platform.kernel import start_peer
from strongroom.bench.platform.probe import MIB, Found, Missing, Probe, Sizes
from strongroom.errors import Unavailable

TIMEOUT = 60.0
NAMES = "network.round_trip, network.stream"


def probes(sizes: Sizes, core: int | None, stack: ExitStack) -> Found:
    """`network.round_trip` and `network.stream`, the other side on `core`."""
    if core is None:
        return [Missing(NAMES, "it takes two cores")]
    peer = start_peer("tcp", core, stack)
    port = peer.stdout.readline() if peer.stdout is not None else b""
    if not port.strip().isdigit():
        return [Missing(NAMES, "the other side does not start")]
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    block = os.urandom(MIB)
    return [
        Probe("network.round_trip", "µs", "less", "one byte by TCP over loopback to another core and back",
              lambda: trip_once(connection, sizes.round_trips)),
        Probe("network.stream", "GB/s", "more", "bytes by TCP over loopback to another core; no network card takes part",
              lambda: stream_once(connection, block, sizes.stream_mib)),
    ]  # fmt: skip


def trip_once(connection: socket.socket, times: int) -> float:
    """Microseconds for one round trip. Raises `Unavailable` if the other side has ended."""
    connection.sendall(b"e" + times.to_bytes(8, "big"))
    began = time.perf_counter()
    for _ in range(times):
        connection.sendall(b".")
        _answer(connection)
    return (time.perf_counter() - began) / times * 1e6


def stream_once(connection: socket.socket, block: bytes, blocks: int) -> float:
    """Gigabytes in a second, until the other side has said that it has them all."""
    connection.sendall(b"s" + (blocks * len(block)).to_bytes(8, "big"))
    began = time.perf_counter()
    for _ in range(blocks):
        connection.sendall(block)
    _answer(connection)
    return blocks * len(block) / (time.perf_counter() - began) / 1e9


def _answer(connection: socket.socket) -> None:
    if connection.recv(1) != b".":
        raise Unavailable("the benchmark's other side has ended")
