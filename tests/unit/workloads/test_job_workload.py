import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.crypto.hpke import ReleaseKey
from strongroom.errors import EngineUnavailable, SealBroken, UsageError
from strongroom.records.digest import digest_bytes
from strongroom.records.job import JobSpec
from strongroom.services.jobs import order
from strongroom.workloads.job.workload import JobWorkload

CODE, INPUT = b"print()", digest_bytes(b"an artifact")
SPEC = JobSpec("sum", digest_bytes(CODE), "", (INPUT,), (), (ReleaseKey.generate().public,), 1, 1)


def workload(place: Path, code: bytes = CODE) -> JobWorkload:
    wanted = order(SPEC, code, f"dir:{place}:out", bytes(32))
    return JobWorkload(wanted, input_bytes=0, profile="development", deliver=lambda _: None)


def opened(*digests: str) -> list[Any]:
    return [SimpleNamespace(digest=digest, files=()) for digest in digests]


def test_other_code_never_becomes_a_workload(tmp_path: Path):
    with pytest.raises(SealBroken):
        workload(tmp_path, b"print(1)")


@pytest.mark.parametrize("found", [(), (INPUT, INPUT), (digest_bytes(b"another"),)])
def test_other_inputs_are_refused_also_when_their_keys_were_released(tmp_path: Path, found: tuple[str, ...]):
    with pytest.raises(SealBroken):
        asyncio.run(workload(tmp_path).open(opened(*found)))


def test_a_job_without_its_process_does_not_open(tmp_path: Path):
    with pytest.raises(EngineUnavailable):
        asyncio.run(workload(tmp_path).open(opened(INPUT)))


def test_a_workload_can_be_wiped_at_any_time_and_twice(tmp_path: Path):
    made = workload(tmp_path)
    made.wipe()
    made.prepare()
    made.wipe()
    made.wipe()
    with pytest.raises(EngineUnavailable):
        asyncio.run(made.open(opened(INPUT)))


@pytest.mark.parametrize("target", ["nowhere", f"dir:/x@{INPUT}"])
def test_outputs_need_a_name_of_their_own(target: str):
    with pytest.raises(UsageError):
        order(SPEC, CODE, target, bytes(32))


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_a_nonce_has_32_bytes(nonce: bytes):
    with pytest.raises(UsageError):
        order(SPEC, CODE, "dir:/x:out", nonce)
