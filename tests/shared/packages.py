"""Debian packages and wheels made up for tests, small and honest unless told otherwise."""

import base64
import hashlib
import io
import lzma
import tarfile
import zipfile


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
