"""What the fuzz targets share: coverage while importing, a corpus of valid seeds, and the one rule.

The rule: whatever the bytes, a parser returns or raises a `StrongroomError`; anything else that escapes is a finding.
A target defines `one(data: bytes)` and `seeds() -> list[bytes]`, and calls `run` when it is the program.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

FUZZING = Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parent


def instrumented() -> contextlib.AbstractContextManager[object]:
    """Imports in this block are instrumented for coverage; in the tests they are plain imports."""
    if not FUZZING:
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=["strongroom"])  # type: ignore[no-any-return]


def run(one: Callable[[bytes], object], seeds: Callable[[], list[bytes]]) -> None:
    """Hand over to libFuzzer; all its options may be given, as `-max_total_time=60`."""
    sys.exit(fuzz(one, seeds))


def fuzz(one: Callable[[bytes], object], seeds: Callable[[], list[bytes]]) -> int:
    """The exit code of a run of libFuzzer with the options of the command line: 0 if nothing was found."""
    with tempfile.TemporaryDirectory(prefix="strongroom-fuzz-") as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        child = os.fork()  # libFuzzer ends its process by itself; who stays tidies up
        if child == 0:
            import atheris

            atheris.Setup([*sys.argv, "-max_len=65536", corpus], one)
            atheris.Fuzz()
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
