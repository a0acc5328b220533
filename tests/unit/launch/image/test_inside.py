"""The image's own Python works alone: code of this machine in its process ends it, and so does its absence from the image."""

import subprocess
import sys
import zlib

import pytest

from strongroom.errors import ImageRefused
from strongroom.launch.image import inside
from strongroom.launch.image.tree import Tree


def child(code, root, *arguments, given=b""):
    """This machine's Python in the place of the image's."""
    command = [sys.executable, "-S", "-c", inside.OWN + code, root, *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=False)


def test_code_of_this_machine_ends_the_compression_before_it_begins(tmp_path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_bytes(b"x" * 5000)
    ran = child(inside._COMPRESS, str(tmp_path), str(plain), str(packed))
    assert ran.returncode
    assert b"not of the image: /" in ran.stderr
    assert not packed.exists()
    assert child(inside._COMPRESS, "", str(plain), str(packed)).returncode == 0, "everything lies below the root of all"
    assert zlib.decompress(packed.read_bytes(), 31) == b"x" * 5000


def test_code_of_this_machine_ends_the_compilation_before_it_begins(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    ran = child(inside._COMPILE, str(tmp_path), given=b"a.py")
    assert ran.returncode
    assert b"not of the image: /" in ran.stderr
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize("code", [inside._COMPILE, inside._COMPRESS], ids=["compile", "compress"])
def test_a_library_that_comes_in_with_the_work_is_found_after_it(code):
    assert code.endswith("\nown()\n")
    assert child("own()\nsys.argv[1] = '/nowhere'\nown()\n", "").returncode, "it looks each time anew"


def test_the_loader_is_told_to_look_nowhere_else(monkeypatch):
    seen = []

    def run(command, **_kept):
        seen.append(command)
        return subprocess.CompletedProcess(command, 1, b"", b"code that is not of the image: /usr/lib/x.so")

    monkeypatch.setattr(inside.subprocess, "run", run)
    with inside.Inside(Tree()) as made, pytest.raises(ImageRefused) as refused:
        made.compress(b"x")
    assert "/usr/lib/x.so" in refused.value.detail
    ((_, *options),) = seen
    assert options[:2] == ["--inhibit-cache", "--library-path"]
    assert options[options.index("-c") + 2] == options[2].removesuffix("/usr/lib/x86_64-linux-gnu")
