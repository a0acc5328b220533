"""The archive, the unified image, the order of modules, the lock: written one way, and read back."""

from dataclasses import replace
from pathlib import Path

import packages
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FileUnreadable, ImageChanged, ImageRefused, MalformedImage, MalformedRecord, UsageError
from strongroom.launch.image import build, cpio, fetch, lock, modules, recipe
from strongroom.launch.image.tree import Entry, Tree
from strongroom.launch.image.unified import unify
from strongroom.launch.measure.pe import authenticode, parse_program
from strongroom.launch.measure.uki import parse_uki

NAMES = st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True)


def tree_of(files):
    tree = Tree()
    for path, data in files.items():
        try:
            tree.file(path, data, "x")
        except MalformedImage:  # one name is a folder of another
            pass
    return tree


@given(files=st.dictionaries(NAMES, st.binary(max_size=40), max_size=8))
def test_an_archive_reads_back_and_does_not_hang_on_the_order(files):
    tree = tree_of(files)
    made = cpio.write_cpio(tree)
    again = Tree()
    for path, entry in reversed(list(tree)):
        again.add(path, entry)
    assert cpio.write_cpio(again) == made
    assert [(path, entry.kind, entry.data) for path, entry in cpio.read_cpio(made)] == [
        (path, entry.kind, entry.data) for path, entry in tree
    ]


def test_an_archive_has_no_time_no_owner_and_two_modes():
    tree = Tree()
    tree.file("init", b"#!", "x", executable=True)
    tree.link("lib", "usr/lib", "x")
    made = cpio.write_cpio(tree)
    assert (
        made[:110] == b"070701"
        b"000000010000"
        b"81ed" + b"0" * 16 + b"00000001" + b"0" * 8 + b"00000002" + b"0" * 32 + b"00000005" + b"0" * 8
    )
    assert [entry.executable for _, entry in cpio.read_cpio(made)] == [True, False]


def archive(*members):
    """An archive of members as they are given: name, mode, bytes, and how many names the file has."""
    made = b""
    for number, (name, mode, data, links) in enumerate((*members, (b"TRAILER!!!", 0, b"", 1))):
        fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        made += b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0"
        made += bytes(-len(made) % 4) + data
        made += bytes(-len(made) % 4)
    return made


INIT = (b"init", cpio.PROGRAM, b"honest", 1)
USR, LINK = (b"usr", cpio.FOLDER, b"", 2), (b"alias", cpio.LINK, b"usr", 1)


@pytest.mark.parametrize(
    "members",
    [
        [INIT, (b"./init", cpio.PROGRAM, b"other", 1)],
        [INIT, (b"/init", cpio.PROGRAM, b"other", 1)],
        [INIT, INIT],
        [INIT, (b"init\0x", cpio.PROGRAM, b"other", 1)],
        [(b"\xff", cpio.FILE, b"", 1)],
        [USR, (b"usr//x", cpio.FILE, b"", 1)],
        [USR, (b"usr/../init", cpio.FILE, b"", 1)],
        [USR, LINK, (b"alias/x", cpio.FILE, b"", 1)],
        [INIT, (b"init/x", cpio.FILE, b"", 1)],
        [(b"usr/x", cpio.FILE, b"", 1)],
        [USR, (b"bin", cpio.LINK, b"usr/bin", 1), (b"bin/x", cpio.FILE, b"", 1)],
        [(b"a", cpio.FILE, b"", 2), (b"b", cpio.FILE, b"bytes of both", 2)],
        [(b"init", cpio.PROGRAM | 0o4000, b"", 1)],
        [(b"x", cpio.FILE | 0o011, b"", 1)],
        [(b"dev", 0o020644, b"", 1)],
    ],
    ids=[
        "dot", "slash", "twice", "NUL", "no text", "slashes", "climbs", "below a link", "below a file", "below nothing",
        "merged", "hard link", "set-user-id", "a program for others", "device",
    ],
)  # fmt: skip
def test_what_the_kernel_would_unpack_as_something_else_is_refused(members):
    assert [name for name, _ in cpio.read_cpio(archive(INIT, USR, (b"usr/x", cpio.FILE, b"", 1), LINK))]
    with pytest.raises(MalformedImage):
        list(cpio.read_cpio(archive(*members)))


@given(at=st.integers(0, 2000), value=st.integers(0, 255), cut=st.integers(0, 600))
def test_a_damaged_archive_is_read_or_refused(at, value, cut):
    made = bytearray(cpio.write_cpio(tree_of({"a/b": b"content", "c": b"more"})))
    made[at % len(made)] = value
    for data in (bytes(made), bytes(made[:cut])):
        try:
            list(cpio.read_cpio(data))
        except MalformedImage:
            pass


def test_sections_are_added_as_a_kernel_and_the_measuring_reader_see_them():
    base = packages.stub()
    made = unify(
        base, [(".osrel", b"ID=x\n"), (".cmdline", b"quiet"), (".linux", b"k" * 5000), (".initrd", b"i" * 4097)]
    )
    found = parse_uki(made)
    assert found.kernel == b"k" * 5000
    assert bytes(found.initrd) == b"i" * 4097
    assert found.command_line == "quiet"
    assert unify(base, [(".linux", b"k")]) == unify(base, [(".linux", b"k")])
    assert authenticode(found.program, "sha256") != authenticode(parse_program(base), "sha256")


def test_a_stub_without_room_is_refused():
    with pytest.raises(MalformedImage, match="room"):
        unify(packages.stub(), [(f".s{number}", b"x") for number in range(30)])


def test_a_stub_without_sections_is_refused():
    bare = bytearray(packages.stub())
    bare[64 + 6 : 64 + 8] = bytes(2)
    empty = bytearray(packages.stub())
    empty[64 + 24 + 240 + 16 : 64 + 24 + 240 + 20] = bytes(4)
    for made in (bare, empty):
        with pytest.raises(MalformedImage, match="no sections"):
            unify(bytes(made), [(".linux", b"k")])


@given(at=st.integers(0, 0x400), value=st.integers(0, 255))
def test_a_damaged_stub_is_extended_or_refused(at, value):
    made = bytearray(packages.stub())
    made[at] = value
    try:
        unify(bytes(made), [(".linux", b"k")])
    except MalformedImage:
        pass


def module(*needs):
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


def test_modules_come_after_what_they_need():
    files = {
        "k/virtio_net.ko": module("virtio", "net_failover"),
        "k/net_failover.ko": module("failover"),
        "k/failover.ko": module(),
        "k/virtio.ko": module(),
        "k/virtio-rng.ko": module("virtio"),
    }
    order = modules.in_order(["virtio-rng", "virtio_net", "vfat"], files, "kernel/fs/fat/vfat.ko\n")
    assert order == ["k/virtio.ko", "k/virtio-rng.ko", "k/failover.ko", "k/net_failover.ko", "k/virtio_net.ko"]


@pytest.mark.parametrize(
    "files",
    [{}, {"k/a.ko": b"\x7fELF"}, {"k/a.ko": module("b"), "k/b.ko": module("a")}],
    ids=["missing", "silent", "in a circle"],
)
def test_modules_that_cannot_be_ordered_are_refused(files):
    with pytest.raises(MalformedImage):
        modules.in_order(["a"], files, "")


def program(path):
    return path, Entry("file", "deb:made-up", b"", executable=True)


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("usr/bin/sh", Entry("file", "deb:dash", b"")),
        ("usr/lib/python3/dist-packages/a/busybox", Entry("file", "wheel:a", b"")),
        ("usr/bin/x", Entry("link", "deb:made-up", b"/opt/bash")),
        program("usr/bin/other"),
    ],
    ids=["shell", "busybox", "link to a shell", "another program"],
)
def test_a_shell_or_another_program_fails_the_build(path, entry):
    tree = Tree()
    for name in recipe.PROGRAMS:
        tree.file(name, b"", "image", executable=True)
    recipe.refuse(tree)
    tree.add(path, entry)
    with pytest.raises(ImageRefused):
        recipe.refuse(tree)


MACHINE = b'version = 1\ncommand = ["strongroom"]\n'


def base():
    """All of an image but its configuration, with modules that are all built in."""
    built_in = "".join(f"kernel/{name}.ko\n" for name in recipe.MODULES)
    return build.Base(build.Boot(b"k" * 100, {}, built_in, packages.stub()), b"packed", b"ID=x\n", "deb:linux")


@pytest.mark.parametrize(
    "files",
    [
        {"busybox": b"\x7fELF"},
        {"sub/sh": b"x"},
        {"owner.pem": b"x\n-----BEGIN PRIVATE KEY-----\n"},
        {"k": b"-----BEGIN OPENSSH PRIVATE KEY-----"},
        {"k": b"-----BEGIN PGP PRIVATE KEY BLOCK-----"},
        {"machine.toml": MACHINE + b"# -----BEGIN EC PRIVATE KEY-----\n"},
    ],
    ids=["busybox", "shell", "key", "of ssh", "of PGP", "in a comment"],
)
def test_a_configuration_brings_no_shell_and_no_private_key(files):
    assert build.finish(base(), {"machine.toml": MACHINE, "owner.pem": b"-----BEGIN PUBLIC KEY-----\n"})
    with pytest.raises(ImageRefused):
        build.finish(base(), {"machine.toml": MACHINE, **files})


def test_an_image_without_its_first_process_is_refused():
    with pytest.raises(ImageRefused, match="missing"):
        recipe.refuse(Tree())


def test_what_is_kept_of_packages():
    kept = ["usr/lib/python3.11/os.py", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/bin/python3.11", "usr/sbin/nft"]
    dropped = [
        "usr/bin/pydoc3.11", "usr/share/man/man8/nft.8.gz", "usr/lib/python3.11/test/support.py", "usr/share/locale/de/x.mo",
        "usr/lib/python3.11/ensurepip/__init__.py", "usr/lib/python3.11/idlelib/x.py", "etc/nftables.conf", "usr/bin/openssl",
    ]  # fmt: skip
    assert [path for path in kept + dropped if recipe.wants_of_deb(path)] == kept
    assert recipe.wants_of_wheel("strongroom/worker/init.py")
    assert not [path for path in ("a/tests/x.py", "a/b.pyi", "strongroom/demo/x.py") if recipe.wants_of_wheel(path)]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("linux-image-6.1-cloud-amd64", *recipe.DEBS):
        (tmp_path / f"{name}_1.0-1_amd64.deb").write_bytes(
            packages.deb({f"usr/share/doc/{name}/copyright": b"free"}, name=name)
        )
    for name in (recipe.OURS, *recipe.WHEELS):
        (tmp_path / f"{name}-1.0-py3-none-any.whl").write_bytes(packages.wheel({f"{name}.py": b""}, name=name))
    return tmp_path


def test_a_lock_names_everything_and_reads_back(folder):
    made = lock.make_lock(folder)
    assert lock.read_lock(lock.to_toml(made)) == made
    assert [item.name for item in made.wheel] == sorted((recipe.OURS, *recipe.WHEELS))
    assert lock.read_item(made.deb[0], folder) == (folder / made.deb[0].file).read_bytes()


def test_a_file_that_is_not_as_locked_is_refused(folder):
    made = lock.make_lock(folder)
    path = folder / made.wheel[0].file
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ImageChanged):
        lock.read_item(made.wheel[0], folder)
    path.unlink()
    with pytest.raises(FileUnreadable):
        lock.read_item(made.wheel[0], folder)


def test_a_lock_with_more_or_less_is_refused(folder):
    made = lock.make_lock(folder)
    for wrong in (replace_text(made, 'name = "nftables"', 'name = "dash"'), lock.to_toml(made) + "x = 1\n", "=", ""):
        with pytest.raises(MalformedRecord):
            lock.read_lock(wrong)
    (folder / "dash_1_amd64.deb").write_bytes(packages.deb({}, name="dash"))
    with pytest.raises(ImageRefused, match="dash: not wanted"):
        lock.make_lock(folder)
    with pytest.raises(ValueError, match="not one name"):
        replace(made.deb[0], file="../x.deb")


def replace_text(made, old, new):
    text = lock.to_toml(made)
    assert old in text
    return text.replace(old, new)


def test_of_the_requirements_only_what_a_worker_needs_is_fetched():
    pinned = "a==1 \\\n    --hash=sha256:00\n    # via x\nRich_Text==2 \\\n    --hash=sha256:11\nb==3 ; x == 'y' \\\n    --hash=sha256:22\n"
    assert fetch.only(pinned, ["a", "b"]) == "a==1 \\\n    --hash=sha256:00\nb==3 ; x == 'y' \\\n    --hash=sha256:22\n"
    with pytest.raises(UsageError, match="c"):
        fetch.only(pinned, ["a", "c"])
    requirements = Path(__file__).parents[4] / "requirements" / "demo.txt"
    assert fetch.only(requirements.read_text(), recipe.WHEELS).count("==") >= len(recipe.WHEELS)


def test_fetching_wants_an_empty_folder(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(UsageError, match="empty"):
        fetch.fetch(tmp_path, "")
