"""Native files lose what only debuggers read, and still run; whatever is no such file stays as it is."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from strongroom.launch.image.elf import strip


def test_a_program_runs_without_its_sections(tmp_path):
    program = Path("/bin/true").read_bytes()
    (tmp_path / "true").write_bytes(strip(program))
    (tmp_path / "true").chmod(0o700)
    assert len(strip(program)) < len(program)
    assert subprocess.run([tmp_path / "true"], check=False).returncode == 0
    assert strip(strip(program)) == strip(program)


def test_a_library_is_loaded_without_its_sections(tmp_path):
    found = next(
        path
        for folder in (Path("/lib/x86_64-linux-gnu"), Path("/usr/lib/x86_64-linux-gnu"), Path("/lib/aarch64-linux-gnu"))
        for path in sorted(folder.glob("libz.so.1*"))
    )
    (tmp_path / "z.so").write_bytes(strip(found.read_bytes()))
    code = f"import ctypes; print(ctypes.CDLL({str(tmp_path / 'z.so')!r}).zlibVersion())"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    assert os.stat(tmp_path / "z.so").st_size < found.stat().st_size  # noqa: PTH116


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x7fELF\x02\x01", Path("/bin/true").read_bytes()[:4096]]))
def test_anything_else_stays_as_it_is(junk, head):
    assert strip(head + junk) == head + junk


@given(st.integers(0, 4095), st.integers(0, 255))
def test_a_damaged_header_is_never_read_beyond_its_end(place, value):
    data = bytearray(Path("/bin/true").read_bytes())
    data[place] = value
    assert len(strip(bytes(data))) <= len(data)
