"""Debian packages and wheels made up for tests, small and honest unless told otherwise."""

import base64
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile

from strongroom.launch.image import cpio, recipe, tcb
from strongroom.launch.image.tree import Tree
from strongroom.launch.image.unified import unify


def ar(members):
    made = b"!<arch>\n"
    for name, data in members.items():
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return made


def tar(files, special=()):
    """A tar archive of files by path (bytes) and links (str), and of `special` members as they are."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(f"./{path}")
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                archive.addfile(member)
            else:
                member.size, member.mode = len(data), 0o755
                archive.addfile(member, io.BytesIO(data))
        for member in special:
            archive.addfile(member)
    return kept.getvalue()


def deb(files, name="made-up", version="1.0-1", architecture="amd64", special=()):
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nDescription: made up\n two lines\n"
    return ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar.xz": lzma.compress(tar({"control": control.encode()})),
            "data.tar.xz": lzma.compress(tar(files, special)),
        }
    )


def wheel(files, name="made-up", version="1.0", tag="py3-none-any", record=None, mode=0o100644):
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: nobody\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {tag}\n".encode(),
    }
    rows = []
    for path, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}")
    rows.append(f"{info}/RECORD,,")
    content[f"{info}/RECORD"] = "\n".join(record or rows).encode()
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        for path, data in content.items():
            member = zipfile.ZipInfo(path)
            member.external_attr = mode << 16
            archive.writestr(member, data)
    return kept.getvalue()


def stub(sections=1):
    """A PE32+ file with one section `.sdmagic`, put together here."""
    magic = b"#### LoaderInfo: systemd-stub 252.39 ####\0"
    optional = bytearray(240)
    optional[0:2] = (0x20B).to_bytes(2, "little")
    for at, value in ((32, 0x1000), (36, 0x200), (56, 0x2000), (60, 0x400), (108, 16)):
        optional[at : at + 4] = value.to_bytes(4, "little")
    coff = (
        b"PE\0\0"
        + (0x8664).to_bytes(2, "little")
        + sections.to_bytes(2, "little")
        + bytes(12)
        + (240).to_bytes(2, "little")
        + bytes(2)
    )
    row = b".sdmagic"
    for value in (len(magic), 0x1000, 0x200, 0x400, 0, 0, 0, 0x40000040):
        row += value.to_bytes(4, "little")
    head = b"MZ" + bytes(58) + (64).to_bytes(4, "little")
    return (head + coff + bytes(optional) + row).ljust(0x400, b"\0") + magic.ljust(0x200, b"\0")


def image(files, packages=(), sections=(), listed=None):
    """A worker image with `files` (bytes) in its root, whose own list says `listed` or, unless told otherwise, the truth."""
    tree = Tree()
    for path, data in files.items():
        tree.file(path, data, "wheel:made-up")
    named = dict.fromkeys(files, "wheel:made-up") if listed is None else listed
    tree.file(recipe.MANIFEST, tcb.manifest(list(packages), named), "image")
    told = Tree()
    told.file(recipe.CONFIGURED, tcb.manifest([], {}), "image")
    initrd = cpio.write_cpio(told) + gzip.compress(cpio.write_cpio(tree), mtime=0)
    return unify(stub(), [*sections, (".cmdline", b"quiet"), (".linux", b"k" * 100), (".initrd", initrd)])
