"""Tensors of a sealed artifact, decrypted one by one, or in part, straight into the memory where they are used.

The map is in the sealed index, so nothing but the segments of what is asked for is read: a rank of a tensor-parallel group reads
its shard. There is no second copy and no file. For torch see `engines.tensors`.

Knows: maps, rows, element types. Does not know: encryption. Not covered: shards of another dimension than the first, which
are not in one piece; elements of less than a byte, which come as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from strongroom.errors import FileUnreadable, UsageError
from strongroom.records.artifact import ELEMENT_BITS, SealedFile, Tensor
from strongroom.sealed.open import OpenedArtifact

if TYPE_CHECKING:
    import numpy as np

BYTE = 8
NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8",
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes, or those of some of its rows, lie: `length` bytes from `start` of the file at `path`."""

    tensor: Tensor
    path: str
    start: int
    length: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensors(Mapping[str, Tensor]):
    """The tensors of all safetensors files of an open artifact, by name."""

    artifact: OpenedArtifact = field(repr=False)
    threads: int | None = None
    _places: Mapping[str, tuple[SealedFile, Tensor]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = {tensor.name: (file, tensor) for file in self.artifact.files for tensor in file.tensors}
        if len(found) != sum(len(file.tensors) for file in self.artifact.files):
            raise UsageError("two files hold a tensor of the same name", remedy="Read them file by file.")
        object.__setattr__(self, "_places", found)

    def __getitem__(self, name: str) -> Tensor:
        return self._places[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def read_into(self, name: str, buffer: memoryview, rows: tuple[int, int] | None = None) -> None:
        """Fill `buffer`, which is exactly as long, with a tensor's bytes, or those of rows first … last - 1.

        Raises `FileUnreadable` for a name that there is not, `UsageError`, `SealBroken`; then `buffer` holds zeros.
        """
        place = self.place(name, rows)
        if buffer.nbytes != place.length:
            raise UsageError(f"room of {buffer.nbytes} bytes for a tensor's {place.length}")
        self.artifact.read_into(place.path, buffer, place.start, threads=self.threads)

    def numpy(self, name: str, rows: tuple[int, int] | None = None) -> np.ndarray[Any, Any]:
        """The tensor as a new array. Raises `UsageError` for types that numpy lacks (BF16, F8…)."""
        import numpy as np

        place = self.place(name, rows)
        if place.tensor.dtype not in NUMPY:
            raise UsageError(f"numpy has no {place.tensor.dtype}", remedy="Read the bytes, or take torch.")
        data = np.empty(place.length, np.uint8)
        self.artifact.read_into(place.path, data.data, place.start, threads=self.threads)
        return data.view(NUMPY[place.tensor.dtype]).reshape(place.shape)

    def place(self, name: str, rows: tuple[int, int] | None = None) -> Place:
        """Where a tensor lies, or its rows first … last - 1. Raises `FileUnreadable`, `UsageError`."""
        if name not in self._places:
            raise FileUnreadable("this artifact holds no such tensor", detail=name[:256])
        file, tensor = self._places[name]
        if rows is None:
            return Place(tensor, file.path, tensor.start, tensor.end - tensor.start, tensor.shape)
        first, last = rows
        if not tensor.shape or not 0 <= first <= last <= tensor.shape[0]:
            raise UsageError("these rows lie outside the tensor")
        bits = ELEMENT_BITS[tensor.dtype] * math.prod(tensor.shape[1:])
        if bits % BYTE:
            raise UsageError("a row of this tensor does not end with a byte")
        row = bits // BYTE
        return Place(
            tensor, file.path, tensor.start + first * row, (last - first) * row, (last - first, *tensor.shape[1:])
        )
