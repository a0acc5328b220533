"""What an image is made of is counted in the image itself, and one that is not what it says is refused."""

import packages
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import MalformedImage
from strongroom.launch.image import tcb
from strongroom.records.digest import digest_bytes

ROW = {"name": "made-up", "version": "1.0", "digest": "sha256:00", "origin": "wheel:made-up"}
FILES = {
    "usr/lib/a.py": b"# says what\n\nx = 1\n\n  # no\ny = 2\n",
    "usr/lib/b.so": b"\x7fELF1234",
    "usr/lib/modules/c.ko": b"\x7fELF",
}


def test_lines_and_bytes_are_counted_by_package():
    made = packages.image(FILES, [ROW])
    found = tcb.contents(made)
    share = found.shares["wheel:made-up"]
    assert (share.files, share.python_lines, share.native_bytes, share.kernel_bytes) == (3, 2, 8, 4)
    assert found.total.kernel_bytes == 4 + 100
    assert found.image == digest_bytes(made)
    document = found.as_json()
    assert document["packages"][0]["python_lines"] == 2
    assert document["files"]["usr/lib/a.py"] == digest_bytes(FILES["usr/lib/a.py"])
    assert document["command_line"] == "quiet"


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ({}, "not in its list"),
        ({**dict.fromkeys(FILES, "x"), "usr/bin/gone": "x"}, "not in it"),
        ({"a": 1}, "does not read"),
    ],
    ids=["unlisted", "gone", "odd"],
)
def test_an_image_that_is_not_what_it_lists_is_refused(listed, says):
    with pytest.raises(MalformedImage, match=says):
        tcb.contents(packages.image(FILES, [ROW], listed=listed))


@pytest.mark.parametrize(
    "rows", [[{}], ["x"], [{**ROW, "more": ""}], [{**ROW, "name": 1}]], ids=["empty", "text", "more", "number"]
)
def test_an_image_whose_packages_do_not_read_is_refused(rows):
    with pytest.raises(MalformedImage):
        tcb.contents(packages.image(FILES, rows))


@given(at=st.integers(0x400, 3000), value=st.integers(0, 255))
def test_an_image_with_any_byte_changed_is_read_or_refused(at, value):
    made = bytearray(packages.image(FILES, [ROW]))
    made[at % len(made)] = value
    try:
        tcb.contents(bytes(made))
    except MalformedImage:
        pass


def test_an_initrd_that_is_cut_or_of_another_kind_is_refused(monkeypatch):
    made = packages.image(FILES, [ROW])
    monkeypatch.setattr(tcb, "MAX_INITRD", 200)
    with pytest.raises(MalformedImage, match="too large"):
        tcb.contents(made)
    monkeypatch.undo()
    at = made.index(b"\x1f\x8b")
    with pytest.raises(MalformedImage, match="not one of ours"):
        tcb.contents(made[:at] + b"ab" + made[at + 2 :])
