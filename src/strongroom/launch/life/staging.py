"""The launch's own folder: pinned files copied and checked, boot disk, variables, private copies of disks.

Knows: that what is measured, what is copied and what is booted are the same bytes, and where each lies. Does not know: who boots them.
Folder: `images/` (pinned files by digest), `boot.img`, `vars.fd`, `disk-N.img`, sockets and the console's file beside them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from strongroom.errors import FileUnreadable, ImageChanged, UsageError
from strongroom.launch.life.fat import boot_disk
from strongroom.launch.life.files import BLOCK, digest_file, durable, make_folder, write_parts
from strongroom.launch.place import DISKS, Place, boots_from_disk
from strongroom.launch.spec import read_pinned
from strongroom.records.digest import Digest
from strongroom.records.launch import LaunchSpec, PinnedFile
from strongroom.records.launched import StagedFile

IMAGES, BOOT = "images", "boot.img"
PUBLIC, PRIVATE = 0o644, 0o600


def staged_place(spec: LaunchSpec, place: Place) -> Place:
    """`place` with everything in the launch's own folder, as it will be once it is staged. Disks that the host gives stand in order.

    Raises `UsageError` for a folder whose name a hypervisor would read as options or that is no text, and for a disk that lies in it.
    """
    state = Path(os.path.abspath(place.state))  # noqa: PTH100 (links stay: a socket's path must not grow)
    if {",", "\n", "\r"} & set(str(state)) or not _is_text(str(state)):
        raise UsageError(
            f"{str(state)!r} is no name for a machine's folder", remedy="Choose one in UTF-8, without commas."
        )
    for path in place.disks:
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(state)):
            raise UsageError(
                f"{path} lies in the machine's own folder, which is wiped",
                remedy="Move the disk, or choose another folder.",
            )
    copies = dict(copied_disks(spec, state))
    disks = tuple(copies.get(number) or path.absolute() for number, path in enumerate(place.disks))
    return replace(
        place,
        state=state,
        boot_disk=state / BOOT if boots_from_disk(spec) else None,
        disks=disks,
        copies={file.digest: state / IMAGES / file.digest.removeprefix("sha256:") for file in spec.files},
    )


def copied_disks(spec: LaunchSpec, state: Path) -> Iterator[tuple[int, Path]]:
    """The private copies of disks that a guest writes, each with its number among the specification's disks."""
    kinds = [device.kind for device in spec.devices if device.kind in DISKS]
    return ((number, state / f"disk-{number}.img") for number, kind in enumerate(kinds) if kind != "verity-disk")


def _is_text(path: str) -> bool:
    """Bytes of a path that are no UTF-8 are surrogates in Python, which no record can hold."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def stage(spec: LaunchSpec, images: Mapping[Digest, bytes], given: Place, staged: Place) -> tuple[StagedFile, ...]:
    """Write everything that is booted; what was there is replaced. Raises `FileUnreadable` or `UsageError`."""
    for path in given.disks:
        if not path.is_file():
            raise FileUnreadable(f"{path}: no such disk", remedy="Give the file of a raw disk with --disk.")
    make_folder(staged.state / IMAGES, mode=0o755)
    for file in spec.files:
        durable(staged.copies[file.digest], images[file.digest], mode=PUBLIC)
    made = [staged.copies[file.digest] for file in spec.files]
    if staged.boot_disk is not None:
        write_parts(
            staged.boot_disk, chain.from_iterable(map(_blocks, boot_disk(images[spec.boot.image.digest]))), mode=PUBLIC
        )
        made.append(staged.boot_disk)
    for number, target in copied_disks(spec, staged.state):
        write_parts(target, _read(given.disks[number]), mode=PRIVATE)
        made.append(target)
    return tuple(_described(staged.state, path) for path in dict.fromkeys(made))


def check_staged(staged: Place, files: tuple[StagedFile, ...]) -> None:
    """Whether everything that is booted is as it was measured. Raises `ImageChanged` or `FileUnreadable`."""
    for file in files:
        path = staged.state / file.name
        if digest_file(path) != (file.size, file.digest):
            raise ImageChanged(f"{path} was changed after it was measured")


def write_variables(spec: LaunchSpec, staged: Place) -> None:
    """The firmware's variables as the template has them, anew for every boot. Raises `ImageChanged` or `FileUnreadable`."""
    if spec.firmware is not None and spec.firmware.variables is not None:
        durable(staged.variables, _copy(spec.firmware.variables, staged), mode=PRIVATE)


def read_staged(spec: LaunchSpec, staged: Place) -> dict[Digest, bytes]:
    """The copies' content, each checked by its digest. Raises `ImageChanged` or `FileUnreadable`."""
    return {file.digest: _copy(file, staged) for file in spec.files}


def _copy(file: PinnedFile, staged: Place) -> bytes:
    return read_pinned(replace(file, file=staged.file(file)), staged.state)


def _described(state: Path, path: Path) -> StagedFile:
    size, digest = digest_file(path)
    return StagedFile(str(path.relative_to(state)), size, digest)


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while part := file.read(BLOCK):
                yield part
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None


def _blocks(data: bytes | memoryview) -> Iterator[memoryview]:
    view = memoryview(data)
    for at in range(0, len(view), BLOCK):
        yield view[at : at + BLOCK]


def require_private(state: Path) -> None:
    """A folder that others can write into is no place for a machine. Raises `UsageError`."""
    kept = state.stat()
    if kept.st_uid != os.geteuid() or kept.st_mode & 0o022:
        raise UsageError(f"{state} can be written by others", remedy="chmod go-w it, or choose another folder.")
