"""A job as a workload of a worker: open the inputs into a confined child, run the code once, seal what it made, sign a receipt.

Knows: limits of time and size, and what is sealed when: the outputs of a job that ended well; of one that failed its standard
streams alone; of one that was cut short, because its lease ended or the worker was told to stop, nothing.
Does not know: evidence, brokers, files of this machine (`deliver`).
Not covered: how much memory and how many threads a job uses; several runs in one worker.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from strongroom.crypto.signatures import PublicKey, fingerprint, generate_p256
from strongroom.engines.confine import Confinement
from strongroom.errors import WorkloadFailed
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records.digest import raw
from strongroom.records.job import JobResult, JobSpec
from strongroom.records.release import PURPOSE_SESSION
from strongroom.sealed.files import write_all
from strongroom.sealed.memory import filled_memfd
from strongroom.sealed.open import OpenedArtifact
from strongroom.sealed.registries.port import Registry
from strongroom.worker.workload import Session
from strongroom.workloads.job.outputs import Ending, judge, seal_outputs
from strongroom.workloads.job.process import JobProcess
from strongroom.workloads.job.spec import check_code, check_inputs

FAILURES = {"failed": "failed", "cut": "was cut short"}

SCRATCH_BYTES = 64 * 1024 * 1024
"""Memory that a job's files may take besides its inputs, its code and its outputs."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done: the job, its code, where its sealed outputs go, and the user's nonce (32 bytes) for the receipt."""

    spec: JobSpec
    code: bytes
    registry: Registry
    tag: str
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """What leaves the worker: the receipt, what its response commits to, the key that signed the outputs, how many files."""

    receipt: ReceiptDocument
    result: JobResult
    signer: PublicKey
    files: int
    ending: Ending


class JobWorkload:
    """One run of one job. `deliver` is given what is to leave the worker, also when the job failed.

    `input_bytes` is at least the size of all inputs together. Raises `SealBroken` or `UsageError` if `order.code` is not the job's.
    """

    name = "job"

    def __init__(
        self,
        order: Order,
        *,
        input_bytes: int,
        profile: Literal["production", "development"],
        deliver: Callable[[Finished], None],
    ) -> None:
        check_code(order.spec, order.code)
        self._order, self._profile, self._deliver = order, profile, deliver
        self._scratch_bytes = SCRATCH_BYTES + input_bytes + len(order.code) + order.spec.output_bytes
        self._process = JobProcess()

    def prepare(self) -> None:
        self._process.spawn(self._scratch_bytes)

    async def open(self, artifacts: Sequence[OpenedArtifact]) -> str:
        check_inputs(self._order.spec, [artifact.digest for artifact in artifacts])
        confinement = await asyncio.to_thread(self._hand_over, artifacts)
        missing = "; ".join(f"{name}: {reason}" for name, reason in confinement.missing.items())
        return f"{len(artifacts)} inputs are in memory, the job confined{f', but for {missing}' if missing else ''}"

    async def run(self, session: Session) -> None:
        ending = await self._run(session.draining)
        finished = await asyncio.to_thread(self._finish, session, ending)
        self._deliver(finished)
        if finished.ending.outcome != "complete":
            raise WorkloadFailed(
                f"the job {FAILURES[finished.ending.outcome]}: {finished.ending.reason}",
                remedy="What it printed is in its sealed outputs, for the recipients, if any were sealed.",
            )

    def wipe(self) -> None:
        self._process.wipe()

    def _hand_over(self, artifacts: Sequence[OpenedArtifact]) -> Confinement:
        """One file at a time, so that at most one is twice in memory."""
        confinement = self._process.hello()
        if self._profile == "production":
            confinement.require()
        for number, artifact in enumerate(artifacts):
            for file in artifact.files:
                descriptor = artifact.into_memfd(file.path)
                try:
                    self._process.put(f"{number}/{file.path}", descriptor)
                finally:
                    os.close(descriptor)
        return confinement

    async def _run(self, draining: asyncio.Event) -> Ending:
        """Until the job ends, its time is over, or the worker drains; the child is dead afterwards."""
        began, limit = time.monotonic(), self._order.spec.seconds
        code = memory_file(self._order.code)
        running = asyncio.create_task(asyncio.to_thread(self._process.run, self._order.spec, code))
        draining_seen = asyncio.create_task(draining.wait())
        try:
            await asyncio.wait({running, draining_seen}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            in_time = running.done()
            await asyncio.to_thread(self._process.kill)
            well = await running
        finally:
            draining_seen.cancel()
            os.close(code)
        seconds = round(time.monotonic() - began)
        if in_time:
            return Ending("complete", "", seconds) if well else Ending("failed", "it ended with an error", seconds)
        if draining.is_set():
            return Ending("cut", "the worker had to stop", seconds)
        return Ending("failed", f"it took more than {limit} seconds", seconds)

    def _finish(self, session: Session, ended: Ending) -> Finished:
        """Seal what may leave, and sign what was done."""
        order, signer = self._order, generate_p256()  # the key is for this run alone; the receipt names it
        with self._process.files() as (streams, outputs):
            ending, files = judge(ended, streams, outputs, limit=order.spec.output_bytes)
            sealed = seal_outputs(files, order.spec, order.registry, tag=order.tag, signer=signer)
        result = JobResult(order.spec.digest, sealed.digest if sealed else None, fingerprint(signer.public_key()))
        request, response = raw(result.job), raw(result.digest)
        receipt = session.receipt(
            self.name,
            request_sha256=request,
            response_sha256=response,
            usage={"seconds": ending.seconds, "output_bytes": sum(file.size for file in files)},
            outcome=ending.outcome,
        )
        bundle = session.prove(order.nonce, PURPOSE_SESSION)
        document = ReceiptDocument(receipt, request, response, bundle, session.release)
        return Finished(document, result, signer.public_key(), len(files), ending)


def memory_file(data: bytes) -> int:
    """`data` as a sealed memfd, which the caller closes."""
    return filled_memfd(len(data), lambda descriptor: write_all(descriptor, data))
