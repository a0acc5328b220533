"""A job in a worker, put together from its parts.

Knows: which part goes where. Does not know: what any part does. The command line calls this and nothing below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from strongroom.appraisal import ear
from strongroom.errors import UsageError
from strongroom.receipts.identity import open_identity, token_key
from strongroom.records.digest import Digest, is_digest
from strongroom.records.job import JobSpec
from strongroom.records.session import ReleaseProof
from strongroom.records.verdict import Level
from strongroom.records.worker import Configuration
from strongroom.sealed.open import inspect
from strongroom.sealed.registries import from_reference
from strongroom.services.worker import Surroundings, configuration, run_worker
from strongroom.worker.life import State
from strongroom.workloads.job.spec import check_inputs
from strongroom.workloads.job.workload import Finished, JobWorkload, Order

NONCE_BYTES = 32


def job_configuration(spec: JobSpec, surroundings: Surroundings) -> Configuration:
    """What is measured of a worker that runs this job, and no other."""
    return configuration("job", surroundings, {}, job=spec.digest)


def order(spec: JobSpec, code: bytes, output: str, nonce: bytes) -> Order:
    """A job to be run, its outputs sealed to the reference `output`. Raises `UsageError`."""
    registry, tag = from_reference(output)
    if is_digest(tag):
        raise UsageError("outputs get a name, and their digest by themselves", remedy="Write --output dir:PATH:TAG.")
    if len(nonce) != NONCE_BYTES:
        raise UsageError(f"a nonce has {NONCE_BYTES} bytes", remedy="Write 64 hexadecimal digits, or leave it out.")
    return Order(spec, code, registry, tag, nonce)


async def run_job(
    wanted: Order,
    surroundings: Surroundings,
    references: Sequence[str],
    *,
    deliver: Callable[[Finished], None],
    report: Callable[[State, str], None],
) -> None:
    """A worker's life with one job in it. `deliver` gets what leaves the worker, also of a job that failed.

    Raises `WorkloadFailed`, and what ends any worker's life early. Other inputs than the job's are refused before a key is
    asked for, and again when they are open.
    """
    found = [inspect(*from_reference(reference)) for reference in references]
    check_inputs(wanted.spec, [summary.digest for summary in found])
    workload = JobWorkload(
        wanted,
        input_bytes=sum(sum(summary.layers) for summary in found),
        profile=surroundings.profile,
        deliver=deliver,
    )
    await run_worker(workload, surroundings, job_configuration(wanted.spec, surroundings), references, report)


def level_of(release: ReleaseProof, broker: Digest) -> Level:
    """The level that the broker saw when it last released or renewed. Raises `SignatureInvalid`, `MalformedRecord`."""
    return ear.from_token(release.token, token_key(open_identity(release.broker, broker))).level
