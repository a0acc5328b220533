"""A tiny LoRA adapter in GGUF, written by hand: real enough for llama.cpp to load, strong enough to change what a model says.

Knows: GGUF version 3 (header, metadata, tensors), and the names under which adapters hold their two matrices. Does not know: training.
"""

import random
import struct

ALIGNMENT = 32
WIDTH = 576
"""Of SmolLM2-135M."""
_STRING, _FLOAT = 8, 6


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def metadata(name: str, value: str | float) -> bytes:
    kind, data = (_STRING, text(value)) if isinstance(value, str) else (_FLOAT, struct.pack("<f", value))
    return text(name) + struct.pack("<I", kind) + data


def adapter(
    *,
    seed: int = 1,
    strength: float = 8.0,
    layers: int = 4,
    width: int = WIDTH,
    offset: int = 0,
    architecture: str = "llama",
    dimensions: tuple[int, ...] = (),
) -> bytes:
    """An adapter of rank 1 for `layers` layers. `offset` and `dimensions`, where given, are lies about each tensor."""
    chance = random.Random(seed)
    told = [
        metadata("general.architecture", architecture),
        metadata("general.type", "adapter"),
        metadata("adapter.type", "lora"),
        metadata("adapter.lora.alpha", strength),
    ]
    infos, data = [], b""
    for layer in range(layers):
        for half, shape in (("lora_a", (width, 1)), ("lora_b", (1, width))):
            given = dimensions or shape
            infos.append(
                text(f"blk.{layer}.attn_output.weight.{half}")
                + struct.pack("<I", len(given))
                + b"".join(struct.pack("<Q", size) for size in given)
                + struct.pack("<IQ", 0, len(data) + offset)
            )
            data += b"".join(struct.pack("<f", chance.uniform(-1, 1)) for _ in range(width))
            data += bytes(-len(data) % ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(told)) + b"".join(told) + b"".join(infos)
    return head + bytes(-len(head) % ALIGNMENT) + data


def hostile() -> dict[str, bytes]:
    """Files that are no adapter, by what is wrong with them."""
    good = adapter()
    return {
        "empty": b"",
        "wrong magic": b"GGUX" + good[4:],
        "cut in its header": good[:40],
        "cut in its data": good[:-4096],
        "a version to come": good[:4] + struct.pack("<I", 2**31) + good[8:],
        "more tensors than bytes": good[:8] + struct.pack("<Q", 2**62) + good[16:],
        "more metadata than bytes": good[:16] + struct.pack("<Q", 2**62) + good[24:],
        "a name longer than the file": good[:24] + struct.pack("<Q", 2**63 - 1) + good[32:],
        "tensors of absurd size": adapter(dimensions=(2**40, 2**22)),
        "tensors of negative size": adapter(dimensions=(2**64 - 1, 1)),
        "tensors of too many dimensions": adapter(dimensions=(1,) * 64),
        "tensors beyond its end": adapter(offset=2**40),
        "another model's width": adapter(width=64),
        "another architecture": adapter(architecture="gpt2"),
    }
