import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256
from strongroom.records.artifact import ArtifactKind
from strongroom.records.digest import digest_bytes
from strongroom.records.job import JobSpec
from strongroom.sealed.open import Opener
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.wrapping import unwrap
from strongroom.workloads.job.outputs import PAD_BYTES, Ending, judge, seal_outputs

WELL, ILL, CUT = Ending("complete", "", 1), Ending("failed", "it ended with an error", 1), Ending("cut", "stopped", 1)
CANARY = b"canary-of-an-output"

Memory = Callable[[bytes], int]


@pytest.fixture
def memory() -> Iterator[Memory]:
    held: list[int] = []

    def make(content: bytes) -> int:
        held.append(os.memfd_create("test"))
        os.write(held[-1], content)  # the position is at the end now, which must not matter
        return held[-1]

    yield make
    for descriptor in held:
        os.close(descriptor)


@pytest.fixture
def streams(memory: Memory) -> list[tuple[str, int]]:
    return [("stdout.txt", memory(b"out")), ("stderr.txt", memory(b""))]


def paths(judged: tuple[Ending, list]) -> list[str]:
    return [file.path for file in judged[1]]


def test_all_of_a_good_job_is_sealed(memory: Memory, streams: list[tuple[str, int]]):
    judged = judge(WELL, streams, [("a/b.csv", memory(b"12"))], limit=5)
    assert judged[0] == WELL
    assert paths(judged) == ["stdout.txt", "stderr.txt", "a/b.csv"]


def test_of_a_failed_job_only_its_streams_are_sealed(memory: Memory, streams: list[tuple[str, int]]):
    judged = judge(ILL, streams, [("a", memory(b"12"))], limit=5)
    assert judged[0] == ILL
    assert paths(judged) == ["stdout.txt", "stderr.txt"]


def test_of_a_job_that_was_cut_nothing_is_sealed(memory: Memory, streams: list[tuple[str, int]]):
    assert judge(CUT, streams, [("a", memory(b"12"))], limit=5) == (CUT, [])


def test_one_byte_too_many_fails_the_job_and_keeps_its_streams(memory: Memory, streams: list[tuple[str, int]]):
    ending, files = judge(WELL, streams, [("a", memory(b"123"))], limit=5)
    assert (ending.outcome, ending.reason) == ("failed", "it made more than 5 bytes")
    assert [file.path for file in files] == ["stdout.txt", "stderr.txt"]


def test_streams_that_are_too_long_are_not_sealed_either(streams: list[tuple[str, int]]):
    for ending in (WELL, ILL):
        judged, files = judge(ending, streams, [], limit=2)
        assert judged.outcome == "failed"
        assert files == []


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a\\b", "a\nb", "x" * 2000, "stdout.txt"]
)
def test_a_name_that_an_artifact_cannot_hold_fails_the_job(memory: Memory, streams: list[tuple[str, int]], name: str):
    ending, files = judge(WELL, streams, [(name, memory(b"1"))], limit=100)
    assert ending.outcome == "failed"
    assert name not in ending.reason or not name
    assert len(files) == 2


def test_a_file_where_a_folder_is_fails_the_job(memory: Memory, streams: list[tuple[str, int]]):
    ending, _ = judge(WELL, streams, [("a", memory(b"1")), ("a/b", memory(b"1"))], limit=100)
    assert ending.outcome == "failed"


def test_what_is_not_a_plain_file_fails_the_job(streams: list[tuple[str, int]]):
    with socket.socket() as end:
        folder, (reading, writing) = os.open("/", os.O_RDONLY), os.pipe()
        try:
            for descriptor in (end.fileno(), folder, reading):
                assert judge(WELL, streams, [("a", descriptor)], limit=100)[0].outcome == "failed"
        finally:
            for descriptor in (folder, reading, writing):
                os.close(descriptor)


def test_outputs_are_sealed_from_memory_to_their_recipients(
    memory: Memory, streams: list[tuple[str, int]], tmp_path: Path
):
    recipient, signer = ReleaseKey.generate(), generate_p256()
    artifact = digest_bytes(b"input")
    spec = JobSpec("sum", digest_bytes(b"code"), "", (artifact,), (), (recipient.public,), 1, 100)
    registry = DirectoryRegistry(tmp_path)
    _, files = judge(WELL, streams, [("a/b", memory(CANARY))], limit=100)
    sealed = seal_outputs(files, spec, registry, tag="out", signer=signer)
    assert sealed is not None

    opener = Opener(registry, "out", signer_public=signer.public_key())
    assert opener.digest == sealed.digest
    assert opener.header.kind is ArtifactKind.OUTPUT
    with opener.open(unwrap(opener.header, recipient)) as artifact_opened:
        content = {file.path: artifact_opened.read(file.path) for file in artifact_opened.files}
    assert content == {"stdout.txt": b"out", "stderr.txt": b"", "a/b": CANARY}
    assert {layer.size // PAD_BYTES for layer in sealed.manifest.layers} == {1}
    assert not any(CANARY in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_nothing_is_sealed_for_nothing(tmp_path: Path):
    recipient = ReleaseKey.generate().public
    spec = JobSpec("sum", digest_bytes(b""), "", (digest_bytes(b""),), (), (recipient,), 1, 1)
    assert seal_outputs([], spec, DirectoryRegistry(tmp_path), tag="out", signer=generate_p256()) is None
    assert list(tmp_path.iterdir()) == []
