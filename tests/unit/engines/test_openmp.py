import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.engines import openmp

LOAD = f"import ctypes; ctypes.CDLL({openmp.LIBRARY!r}); print('loaded')"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the library."""
    monkeypatch.setattr(openmp, "_machine_has_it", lambda: False)


def test_a_machine_that_has_the_library_needs_nothing(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert openmp.folder_with_openmp() is None
    assert openmp.with_folder({"A": "b"}, None) == {"A": "b"}


@pytest.mark.usefixtures("bare")
def test_a_bare_machine_gets_the_copy_and_it_can_be_loaded():
    folder = openmp.folder_with_openmp()
    assert folder is not None
    environment = openmp.with_folder(dict(os.environ), folder.name)
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "loaded\n"
    assert (Path(folder.name) / openmp.LIBRARY).resolve().name.startswith("libgomp-")
    folder.cleanup()


@pytest.mark.usefixtures("bare")
def test_a_loaders_path_that_is_there_already_is_kept():
    folder = openmp.folder_with_openmp()
    assert folder is not None
    with folder:
        found = openmp.with_folder({"LD_LIBRARY_PATH": "/known"}, folder.name)
        assert found["LD_LIBRARY_PATH"] == f"{folder.name}{os.pathsep}/known"


@pytest.mark.usefixtures("bare")
def test_without_a_copy_there_is_nothing_to_give(monkeypatch):
    monkeypatch.setattr(openmp, "CARRIER", "no-such-package")
    assert openmp.folder_with_openmp() is None
