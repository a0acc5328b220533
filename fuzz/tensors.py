"""The header of a safetensors file."""

import json

from harness import instrumented, run

with instrumented():
    from strongroom.sealed.tensors import tensors_of


def one(data: bytes) -> None:
    found = tensors_of(lambda offset, length: data[offset : offset + length], len(data))
    ends = [tensor.end for tensor in found]
    if found and (ends != sorted(ends) or ends[-1] != len(data)):
        raise AssertionError("a map that is not of this file")


def seeds() -> list[bytes]:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [12, 14]},
    }
    text = json.dumps(header).encode()
    return [len(text).to_bytes(8, "little") + text + bytes(14)]


if __name__ == "__main__":
    run(one, seeds)
