"""Tensors of a sealed artifact for torch: decrypted straight into the tensor's own memory, without a file or a second copy.

Knows: torch's names of element types. Does not know: encryption, or what a model does with them. Not covered: memory that is
pinned for a GPU, and elements of less than a byte.
"""

from __future__ import annotations

from typing import Any

import torch

from strongroom.errors import UsageError
from strongroom.sealed.view import Tensors

DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip


def torch_tensor(tensors: Tensors, name: str, rows: tuple[int, int] | None = None) -> Any:
    """One tensor, or its rows first … last - 1, as a new torch tensor on the CPU.

    Raises `FileUnreadable` for a name that there is not, `UsageError` for a type that this torch lacks, `SealBroken`.
    """
    place = tensors.place(name, rows)
    dtype = getattr(torch, DTYPES.get(place.tensor.dtype, "-"), None)
    if dtype is None:
        raise UsageError(f"this torch has no {place.tensor.dtype}", remedy="Read the bytes.")
    data = torch.empty(place.length, dtype=torch.uint8)
    tensors.artifact.read_into(place.path, memoryview(data.numpy()), place.start, threads=tensors.threads)
    return data.view(dtype).reshape(place.shape)


def state_dict(tensors: Tensors) -> dict[str, Any]:
    """All tensors by name, as `torch.nn.Module.load_state_dict` takes them. Raises as `torch_tensor`."""
    return {name: torch_tensor(tensors, name) for name in tensors}
