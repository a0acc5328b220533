"""Debian packages and wheels are read whole or refused; what they hold stays below the root."""

import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile

import packages
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import MalformedImage
from strongroom.launch.image import deb, wheels
from strongroom.launch.image.tree import Tree


def entries(data):
    package = deb.parse_deb(data)
    return package, dict(package.entries("deb:made-up"))


def test_a_package_is_read_with_its_name_version_and_files():
    package, found = entries(packages.deb({"usr/bin/x": b"program", "usr/lib/l.so": "l.so.1"}))
    assert (package.name, package.version) == ("made-up", "1.0-1")
    assert found["usr/bin/x"].data == b"program"
    assert (found["usr/lib/l.so"].kind, found["usr/lib/l.so"].data) == ("link", b"l.so.1")


def test_a_hard_link_is_a_copy_of_what_came_before():
    hard = tarfile.TarInfo("./usr/b")
    hard.type, hard.linkname = tarfile.LNKTYPE, "./usr/a"
    _, found = entries(packages.deb({"usr/a": b"same"}, special=[hard]))
    assert found["usr/b"].data == b"same"


def special(kind, name="./x", target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [special(tarfile.CHRTYPE), special(tarfile.FIFOTYPE), special(tarfile.LNKTYPE, target="/etc/shadow")],
    ids=["device", "fifo", "hard link to nothing"],
)
def test_a_package_with_anything_odd_in_it_is_refused(member):
    with pytest.raises(MalformedImage):
        entries(packages.deb({}, special=[member]))


@pytest.mark.parametrize("path", ["../etc/passwd", "usr/../../x", "a\nb", "a" * 2000])
def test_a_path_that_climbs_or_is_odd_is_refused(path):
    _, found = entries(packages.deb({path: b"x"}))
    ((name, entry),) = found.items()
    with pytest.raises(MalformedImage):
        Tree().add(name, entry)


@pytest.mark.parametrize("target", ["../../../etc", "/../x", "a/../../../../x"])
def test_a_link_that_leads_out_is_refused(target):
    tree = Tree()
    tree.link("usr/lib/x", target, "deb:made-up")
    with pytest.raises(MalformedImage, match="leads out"):
        tree.drop_dangling()


def test_nothing_is_put_below_a_link_and_nothing_is_overwritten():
    tree = Tree()
    tree.link("usr/lib/x", "/etc", "deb:a")
    with pytest.raises(MalformedImage, match="no folder"):
        tree.file("usr/lib/x/passwd", b"", "deb:b")
    tree.file("etc/x", b"1", "deb:a")
    tree.file("etc/x", b"1", "deb:b")
    with pytest.raises(MalformedImage, match="not the same"):
        tree.file("etc/x", b"2", "deb:b")


def test_old_folders_are_merged_into_usr_and_dangling_links_go():
    tree = Tree()
    tree.file("./lib/x86_64-linux-gnu/libc.so.6", b"c", "deb:libc6")
    tree.link("usr/lib64/ld.so", "/lib/x86_64-linux-gnu/libc.so.6", "deb:libc6")
    tree.link("usr/lib/first", "second", "deb:libc6")
    tree.link("usr/lib/second", "nowhere", "deb:libc6")
    tree.drop_dangling()
    links = [path for path, entry in tree if entry.kind == "link"]
    assert links == ["usr/lib64/ld.so"]
    assert "usr/lib/x86_64-linux-gnu/libc.so.6" in tree.entries


def test_a_package_that_unpacks_to_too_much_is_refused(monkeypatch):
    made = packages.deb({"usr/x": bytes(1 << 20)})
    assert len(made) < 4096
    monkeypatch.setattr(deb, "MAX_DATA", 1 << 16)
    with pytest.raises(MalformedImage, match="more than"):
        deb.parse_deb(made)


def remade(**changed):
    members = {**deb.ar_members(packages.deb({"usr/x": b"x"})), **changed}
    return packages.ar({name: data for name, data in members.items() if data is not None})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"!<arch>\n",
        packages.deb({})[:-3],
        packages.deb({}, architecture="arm64"),
        packages.deb({}, name=""),
        remade(**{"debian-binary": b"3.0\n"}),
        remade(**{"data.tar.xz": None}),
        remade(**{"data.tar.xz": b"\xfd7zXZ\0"}),
        remade(**{"data.tar.xz": lzma.compress(b"x") + b"more"}),
        remade(**{"control.tar.xz": lzma.compress(packages.tar({}))}),
        remade(**{"data.tar.zst": b""}),
    ],
    ids=[
        "empty",
        "no member",
        "cut",
        "architecture",
        "name",
        "version",
        "no data",
        "cut data",
        "more",
        "no control",
        "two",
    ],
)
def test_what_is_no_package_is_refused(data):
    with pytest.raises(MalformedImage):
        deb.parse_deb(data)


def unpacked(archive):
    """What a package with this data archive holds."""
    return entries(remade(**{"data.tar.xz": None, "data.tar": archive}))[1]


def sparse(size):
    """A member of the old GNU kind that claims `size` bytes and stores one."""
    header = bytearray(512)
    for at, field in (
        (0, b"./usr/x"), (100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0"), (124, b"00000000001\0"),
        (136, b"00000000000\0"), (148, b" " * 8), (156, b"S"), (257, b"ustar  \0"), (386, b"00000000000\0"),
        (398, b"00000000001\0"), (483, b"\x80" + size.to_bytes(11, "big")),
    ):  # fmt: skip
        header[at : at + len(field)] = field
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x".ljust(512, b"\0") + bytes(1024)


def extended(**records):
    """An archive of one file of one byte, with extended records that say more of it."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("./usr/x")
        member.size, member.pax_headers = 1, {name.replace("_", "."): value for name, value in records.items()}
        archive.addfile(member, io.BytesIO(b"x"))
    return kept.getvalue()


def nested_names(count):
    """An archive whose first header announces a long name for a header that announces a long name, and so on."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    return (header.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * count + bytes(1024)


@pytest.mark.parametrize(
    "archive",
    [
        sparse(1),
        sparse(5000),
        extended(GNU_sparse_size="5000", GNU_sparse_numblocks="1", GNU_sparse_map="0,1"),
        extended(size="-512"),
        extended(size="20000"),
        nested_names(2000),
    ],
    ids=["sparse", "holes", "extended holes", "negative", "too long", "nested"],
)
def test_a_member_that_claims_other_bytes_than_it_has_is_refused(archive):
    with pytest.raises(MalformedImage):
        unpacked(archive)


@pytest.mark.parametrize("size", [5000, 1 << 40])
def test_a_few_bytes_never_take_all_memory(size):
    package = deb.parse_deb(remade(**{"data.tar.xz": None, "data.tar": sparse(size)}))
    tracemalloc.start()
    try:
        with pytest.raises(MalformedImage, match="claims more"):
            list(package.entries("deb:made-up"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


THREE = packages.tar({"usr/a": b"1", "usr/b": b"2", "usr/c": b"3"})


def bit(at):
    return THREE[:at] + bytes([THREE[at] ^ 1]) + THREE[at + 1 :]


@pytest.mark.parametrize(
    "archive",
    [
        bit(1024 + 150), bit(2048 + 150), THREE[: 1024 + 300], THREE[:3072], THREE[:3584], THREE[:4095],
        THREE[:3072] + bytes(1024) + THREE, THREE[:3072] + bytes(512) + THREE, THREE + b"x",
    ],
    ids=["second", "third", "cut", "no end", "half an end", "nearly", "another", "another within", "more"],
)  # fmt: skip
def test_an_archive_that_is_damaged_or_goes_on_after_its_end_is_refused(archive):
    assert list(unpacked(THREE)) == list(unpacked(THREE[:4096])) == ["usr/a", "usr/b", "usr/c"]
    with pytest.raises(MalformedImage):
        unpacked(archive)


@given(at=st.integers(0, 4095), value=st.integers(0, 255))
def test_an_archive_with_any_byte_changed_is_read_whole_or_refused(at, value):
    try:
        found = unpacked(THREE[:at] + bytes([value]) + THREE[at + 1 :])
    except MalformedImage:
        return
    assert len(found) == 3


def test_a_path_that_is_not_text_is_refused():
    kept = io.BytesIO()
    with tarfile.open(
        fileobj=kept, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        archive.addfile(tarfile.TarInfo("./usr/\udcff"))
    with pytest.raises(MalformedImage):
        unpacked(kept.getvalue())


@given(at=st.integers(0, 400), value=st.integers(0, 255))
def test_a_package_with_any_byte_changed_is_read_or_refused(at, value):
    made = bytearray(packages.deb({"usr/x": b"x"}))
    made[at % len(made)] = value
    try:
        entries(bytes(made))
    except MalformedImage:
        pass


def test_a_wheel_is_read_with_its_name_version_and_files():
    found = wheels.parse_wheel(
        packages.wheel(
            {"a/__init__.py": b"1", "made_up-1.0.data/purelib/b.py": b"2", "made_up-1.0.data/scripts/c": b"3"},
            name="Made_Up",
        )
    )
    assert (found.name, found.version) == ("made-up", "1.0")
    assert found.files["a/__init__.py"] == b"1"
    assert found.files["b.py"] == b"2"
    assert not [path for path in found.files if path.endswith("/c")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK", "archive"),
        (packages.wheel({"../x.py": b""}), "leaves"),
        (packages.wheel({"a/./x.py": b""}), "oddly"),
        (packages.wheel({"x.py": b""}, mode=0o120777), "link"),
        (packages.wheel({"x.py": b""}, tag="cp311-cp311-win_amd64"), "machine"),
        (packages.wheel({"x.py": b""}, tag="cp311-cp311-manylinux2014_aarch64"), "machine"),
        (packages.wheel({"x.py": b""}, record=["x.py,,"]), "other files"),
        (packages.wheel({"b.py": b"", "made_up-1.0.data/purelib/b.py": b"2"}), "twice"),
        (packages.wheel({"other-1.dist-info/METADATA": b""}), "one folder"),
    ],
    ids=["no zip", "climbs", "odd", "link", "windows", "arm", "record", "twice", "two wheels"],
)
def test_a_hostile_wheel_is_refused(data, says):
    with pytest.raises(MalformedImage, match=says):
        wheels.parse_wheel(data)


def test_a_file_that_is_not_as_recorded_is_refused():
    made = packages.wheel({"x.py": b"honest"})
    with pytest.raises(MalformedImage):
        wheels.parse_wheel(made.replace(b"honest", b"patch!"))
    honest = wheels.parse_wheel(made)
    record = [f"{path},sha256=AAAA,1" for path in honest.files]
    with pytest.raises(MalformedImage, match="not the file"):
        wheels.parse_wheel(packages.wheel({"x.py": b"honest"}, record=record))


def test_a_wheel_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(wheels, "MAX_UNPACKED", 1000)
    with pytest.raises(MalformedImage, match="more than"):
        wheels.parse_wheel(packages.wheel({"x.py": bytes(2000)}))


def packed(data, packing):
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", packing) as archive:
        archive.writestr("a.py", data)
    return kept.getvalue()


DEFLATED = packed(b"x = 1\n" * 1000, zipfile.ZIP_DEFLATED)


def far_away():
    """A wheel whose only member claims to lie at an offset of nearly 2^64."""
    made = packed(b"x", zipfile.ZIP_STORED)
    central, end = made.find(b"PK\1\2"), made.find(b"PK\5\6")
    extra = struct.pack("<HHQ", 1, 8, (1 << 64) - 1 - len(made))
    row, tail = bytearray(made[central:end]), bytearray(made[end:])
    row[30:32], row[42:46] = struct.pack("<H", len(extra)), b"\xff" * 4
    tail[12:16] = struct.pack("<I", len(row) + len(extra))
    return made[:central] + bytes(row) + extra + bytes(tail)


@pytest.mark.parametrize(
    "data",
    [
        far_away(),
        packed(b"x = 1\n" * 1000, zipfile.ZIP_LZMA),
        packed(b"x = 1\n" * 1000, zipfile.ZIP_LZMA).replace(b"\x5d\0", b"\xff\0"),
        packed(b"x = 1\n" * 1000, zipfile.ZIP_BZIP2),
        DEFLATED[:40] + b"\xff" * 8 + DEFLATED[48:],
    ],
    ids=["offset", "LZMA", "broken LZMA", "bzip2", "broken"],
)
def test_a_wheel_whose_archive_lies_is_refused(data):
    with pytest.raises(MalformedImage, match=r"does not read|packed as no wheel"):
        wheels.parse_wheel(data)


@given(
    made=st.sampled_from([DEFLATED, far_away(), packed(b"x", zipfile.ZIP_LZMA), packed(b"x", zipfile.ZIP_BZIP2)]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_changed_archive_is_never_a_wheel_without_metadata(made, changes):
    data = bytearray(made)
    for at, value in changes:
        data[at % len(data)] = value
    with pytest.raises(MalformedImage):
        wheels.parse_wheel(bytes(data))


@given(at=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_wheel_with_any_byte_changed_is_read_or_refused(at, value):
    made = bytearray(packages.wheel({"x.py": b"x"}))
    made[at % len(made)] = value
    try:
        wheels.parse_wheel(bytes(made))
    except MalformedImage:
        pass
