"""The other arm of `bench inference`: engine child, gateway, sealed channel and receipts, exactly as a worker runs them.

A process of its own: `python -m strongroom.bench.gateway MODEL THREADS CONTEXT`. It prints address and keyset as one line of JSON, then
serves until its standard input closes. There is no TEE here and nothing secret: proving happens once before the first request and is
measured by itself; what is measured here is what every request pays.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path

from strongroom.engines.process import EngineProcess
from strongroom.errors import DeviceUnavailable
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.release import LogProof
from strongroom.records.session import ReleaseProof
from strongroom.sealed.memory import filled_memfd
from strongroom.services.gateway import front
from strongroom.worker.keys import WorkerKeys
from strongroom.worker.workload import Session
from strongroom.workloads.inference.workload import InferenceWorkload

NOTHING = digest_bytes(b"")


def no_evidence(_nonce: bytes, _purpose: str) -> EvidenceBundle:
    """There is no TEE here to prove anything."""
    raise DeviceUnavailable("a benchmark has no evidence")


async def main(model: str, threads: int, context: int) -> None:
    """Serve `model` until standard input ends."""
    engine = EngineProcess(profile="development")
    engine.spawn()
    keys = WorkerKeys.generate(now=int(time.time()))

    def ready(url: str) -> None:
        print(json.dumps({"url": url, "keyset": codec.to_json(keys.keyset)}), flush=True)

    settings: dict[str, str | int] = {"name": "bench", "threads": threads, "context": context, "slots": 1}
    workload = InferenceWorkload(engine, settings, front("127.0.0.1", 0, ready))
    descriptor = in_memory(model)
    try:
        await engine.load(descriptor, settings)
        session = _session(keys)
        loop = asyncio.get_running_loop()
        threading.Thread(target=_until_closed, args=(loop, session), daemon=True).start()
        await workload.run(session)
    finally:
        os.close(descriptor)
        workload.wipe()


def in_memory(model: str) -> int:
    """The file as a memfd, which is how a worker opens a model."""
    size = Path(model).stat().st_size
    source = os.open(model, os.O_RDONLY)

    def fill(target: int) -> None:
        sent = 0
        while sent < size:
            sent += os.sendfile(target, source, sent, size - sent)

    try:
        return filled_memfd(size, fill)
    finally:
        os.close(source)


def _session(keys: WorkerKeys) -> Session:
    release = ReleaseProof("", LogProof(0, b"", (), ""), Envelope("", b"", ()), "bench", NOTHING)
    return Session(
        keys=keys,
        prove=no_evidence,
        evidence=NOTHING,
        policy=NOTHING,
        artifacts=(),
        statement=NOTHING,
        release=release,
        clock=lambda: int(time.time()),
    )


def _until_closed(loop: asyncio.AbstractEventLoop, session: Session) -> None:
    sys.stdin.read()
    loop.call_soon_threadsafe(session.draining.set)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
