"""The other arm of `bench inference`: engine child, gateway, sealed channel and receipts, exactly as a worker runs them.

A process of its own: `python -m strongroom.bench.gateway MODEL THREADS CONTEXT [SLOTS]`. It prints address and keyset as one line of
JSON, then serves until its standard input closes. Where MODEL is `talker`, the engine is the stand-in of that name (`bench.talker`).
There is no TEE here and nothing secret: proving happens once before the first request and is measured by itself; what is measured here
is what every request pays.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path

from strongroom.crypto import merkle
from strongroom.crypto.signatures import sign_envelope
from strongroom.engines import process
from strongroom.engines.process import EngineProcess
from strongroom.errors import DeviceUnavailable
from strongroom.records import codec
from strongroom.records.digest import digest_bytes, raw
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.release import LogProof
from strongroom.records.session import ReleaseProof
from strongroom.sealed.memory import filled_memfd
from strongroom.services.gateway import front
from strongroom.worker.keys import WorkerKeys
from strongroom.worker.workload import Session
from strongroom.workloads.inference.workload import InferenceWorkload

TALKER = "talker"
LOG_SECONDS = 1.0
NOTHING = digest_bytes(b"")


def no_evidence(_nonce: bytes, _purpose: str) -> EvidenceBundle:
    """There is no TEE here to prove anything."""
    raise DeviceUnavailable("a benchmark has no evidence")


async def main(model: str, threads: int, context: int, slots: int = 1) -> None:
    """Serve `model` until standard input ends."""
    if model == TALKER:
        process._CHILD = "strongroom.bench.talker"  # noqa: SLF001 (its own place for it is not for configuration)
        model = os.devnull
    engine = EngineProcess(profile="development")
    engine.spawn()
    keys = WorkerKeys.generate(now=int(time.time()))

    def ready(url: str) -> None:
        print(json.dumps({"url": url, "keyset": codec.to_json(keys.keyset)}), flush=True)

    settings: dict[str, str | int] = {"name": "bench", "threads": threads, "context": context, "slots": slots}
    workload = InferenceWorkload(engine, settings, front("127.0.0.1", 0, ready), slots=slots, queue=max(16, slots))
    descriptor = in_memory(model)
    try:
        await engine.load(descriptor, settings)
        workload.models[0].attach(engine)
        session = _session(keys)
        loop = asyncio.get_running_loop()
        threading.Thread(target=_until_closed, args=(loop, session), daemon=True).start()
        logging = asyncio.create_task(_log_receipts(session))
        await workload.run(session)
        logging.cancel()
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


async def _log_receipts(session: Session) -> None:
    """A signed root of receipts each interval, as a worker makes it for its broker."""
    while True:
        await asyncio.sleep(LOG_SECONDS)
        leaves, session.leaves[:] = list(session.leaves), []
        if leaves:
            root = merkle.root([merkle.leaf_hash(raw(leaf)) for leaf in leaves])
            sign_envelope("application/octet-stream", root, session.keys.receipt)


def _until_closed(loop: asyncio.AbstractEventLoop, session: Session) -> None:
    sys.stdin.read()
    loop.call_soon_threadsafe(session.draining.set)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:5])))
