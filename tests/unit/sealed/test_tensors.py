"""Tensors: mapped as safetensors maps them, and read alone, in part, and into the memory where they are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from strongroom.errors import FileUnreadable, SealBroken, UsageError
from strongroom.records.artifact import Tensor
from strongroom.sealed.open import OpenedArtifact
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.tensors import tensors_of
from strongroom.sealed.view import Tensors

from .conftest import Owner

WEIGHTS = {
    "embedding": np.arange(60, dtype="<f4").reshape(12, 5),
    "norm": np.ones(7, dtype="<f2"),
    "scalar": np.array(3, dtype="<i8"),
    "nothing": np.zeros((0, 4), dtype="<f8"),
    "mask": np.array([True, False]),
}


def mapped(data: bytes) -> tuple[Tensor, ...]:
    return tensors_of(lambda offset, length: data[offset : offset + length], len(data))


def file_of(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.fixture
def opened(owner: Owner, tmp_path: Path, registry: DirectoryRegistry) -> OpenedArtifact:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(WEIGHTS, folder / "one.safetensors", metadata={"format": "np"})
    save_file({"other": np.arange(1000, dtype="<u2")}, folder / "two.safetensors")
    (folder / "config.json").write_text("{}")
    owner.seal(folder, registry)
    return owner.open(registry)


def test_the_map_is_the_one_that_safetensors_writes():
    data = save(WEIGHTS, metadata={"format": "np"})
    found = {tensor.name: tensor for tensor in mapped(data)}
    assert found.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        assert found[name].shape == array.shape
        assert data[found[name].start : found[name].end] == array.tobytes()


GOOD = {
    "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
    "b": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]},
}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        bytes(8),
        (1 << 63).to_bytes(8, "little") + bytes(100),
        file_of(b"\xff\xff"),
        file_of(b"[]"),
        file_of(b"7"),
        file_of(b"[" * 5000),
        file_of(GOOD, b"abcd"),
        file_of(GOOD, b"ab"),
        file_of(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"a"),
        file_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"ab"),
        file_of({**GOOD, "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, b"abc"),
        file_of({"a": {"dtype": "U9", "shape": [1], "data_offsets": [0, 1]}}, b"a"),
        file_of({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}}, b"a"),
        file_of({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"a"),
        file_of({"a": {"dtype": "U8", "shape": [1.0], "data_offsets": [0, 1]}}, b"a"),
        file_of({"a": {"dtype": ["U8"], "shape": [1], "data_offsets": [0, 1]}}, b"a"),
        file_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}, b"a"),
        file_of({"a": {"dtype": "U8", "shape": 1, "data_offsets": [0, 1]}}, b"a"),
        file_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "more": 1}}, b"a"),
        file_of({"a": None}, b"a"),
    ],
)  # fmt: skip
def test_what_is_no_safetensors_file_has_no_map(data: bytes):
    assert mapped(data) == ()


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 255))
def test_no_bytes_raise(noise: bytes, at: int, value: int):
    mapped(noise)
    changed = bytearray(file_of(GOOD, b"abc"))
    changed[at % len(changed)] = value
    for tensor in mapped(bytes(changed)):
        assert 0 <= tensor.start <= tensor.end <= len(changed)


@pytest.mark.interop("tensors", "safetensors (PyPI)", "strongroom")
def test_a_tensor_alone_is_what_was_saved(opened: OpenedArtifact):
    with opened:
        tensors = Tensors(opened)
        assert set(tensors) == {*WEIGHTS, "other"}
        for name, array in WEIGHTS.items():
            found = tensors.numpy(name)
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)
        np.testing.assert_array_equal(tensors.numpy("other"), np.arange(1000, dtype="<u2"))


def test_a_rank_reads_its_rows_and_no_other_segment(opened: OpenedArtifact, monkeypatch: pytest.MonkeyPatch):
    from strongroom.crypto.segments import Stream

    read: list[int] = []
    segment_into = Stream.segment_into

    def counted(self: Stream, number: int, sealed: memoryview, plain: memoryview) -> int:
        read.append(number)
        return segment_into(self, number, sealed, plain)

    monkeypatch.setattr(Stream, "segment_into", counted)
    with opened:
        np.testing.assert_array_equal(Tensors(opened).numpy("embedding", (3, 6)), WEIGHTS["embedding"][3:6])
        assert len(read) <= 2
        read.clear()
        room = np.empty(4, "<u2")
        Tensors(opened).read_into("other", room.data, (996, 1000))
        np.testing.assert_array_equal(room, np.arange(996, 1000))
        assert len(read) == 1


@pytest.mark.parametrize("rows", [(-1, 2), (2, 1), (0, 13)])
def test_rows_that_there_are_not_are_a_usage_error(opened: OpenedArtifact, rows: tuple[int, int]):
    with opened, pytest.raises(UsageError):
        Tensors(opened).numpy("embedding", rows)


def test_what_there_is_not_is_said(opened: OpenedArtifact):
    with opened:
        tensors = Tensors(opened)
        with pytest.raises(FileUnreadable):
            tensors.numpy("absent")
        with pytest.raises(UsageError, match="room"):
            tensors.read_into("norm", memoryview(bytearray(3)))
        with pytest.raises(UsageError):
            tensors.numpy("scalar", (0, 1))
        with pytest.raises(UsageError):
            opened.read_into("config.json", memoryview(bytearray(3)))


def test_a_changed_tensor_is_refused_and_leaves_zeros(opened: OpenedArtifact, registry: DirectoryRegistry):
    manifest = opened.streams.manifest
    number = [file.path for file in opened.files].index("two.safetensors") + 1
    place = registry.root / "blobs" / "sha256" / manifest.layers[number].digest.removeprefix("sha256:")
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    room = bytearray(b"\xaa" * 2000)
    with opened, pytest.raises(SealBroken, match="segment"):
        Tensors(opened).read_into("other", memoryview(room))
    assert room == bytes(2000)
