"""Each fuzz target on a few hundred seeded inputs: valid ones, mutated ones, noise. The long runs are in `fuzz/`."""

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
NO_TARGETS = {"harness", "samples", "campaign", "every"}
TARGETS = sorted(path.stem for path in FUZZ.glob("*.py") if path.stem not in NO_TARGETS)
INPUTS = 300


@pytest.fixture(scope="module", autouse=True)
def fuzz_folder():
    sys.path.insert(0, str(FUZZ))
    yield
    sys.path.remove(str(FUZZ))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", FUZZ / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """`seed` with a few bytes flipped, cut, repeated, swapped for interesting ones, or its middle taken out."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = chance.choice(
                    [b"\0", b"\xff" * 4, b'"', b"[[[[", b"{}", b"9" * 5000, b"\\ud800", b"\n\n", b"-1"]
                )
            case 3:
                data[at:at] = data[max(0, at - 64) : at]
            case _:
                del data[at : at + chance.randint(1, 16)]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_in_a_parser_returns_or_raises_one_of_our_errors(name):
    target, chance = load(name), random.Random(name)
    seeds = target.seeds()
    assert seeds
    for seed in seeds:
        target.one(seed)
    for number in range(INPUTS):
        noise = number % 5 == 0
        target.one(chance.randbytes(chance.randint(0, 200)) if noise else mutated(chance.choice(seeds), chance))


def test_every_target_is_in_the_readme():
    listed = (FUZZ / "README.md").read_text()
    assert [name for name in TARGETS if f"`{name}`" not in listed] == []
