"""A worker image from a lock, the files that it names, and a configuration: the same bytes each time.

Knows: the order in which an image is put together, and what is written into it besides packages. Does not know: formats (`deb`,
`wheels`, `cpio`, `unified`), or what is wanted (`recipe`). No clock, no network, no environment, no account has a say in it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from strongroom.errors import FileUnreadable, ImageRefused, MalformedImage, UsageError
from strongroom.launch.image import cpio, elf, modules, recipe, tcb
from strongroom.launch.image.deb import parse_deb
from strongroom.launch.image.inside import Inside
from strongroom.launch.image.lock import Item, Lock, origin, read_item
from strongroom.launch.image.tree import Tree, clean
from strongroom.launch.image.unified import unify
from strongroom.launch.image.wheels import parse_wheel
from strongroom.records.machine import PLACE, MachineConfiguration, from_toml

SELF = "image"
"""The origin of what is written here."""
EMPTY = ("dev", "proc", "run", "srv", "sys", "tmp")
MAX_CONFIGURATION, MAX_CONFIGURATION_FILES = 1 << 24, 256
_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")
INIT = f"#!/{recipe.INTERPRETER} -I\nfrom strongroom.worker.init import main\n\nmain()\n"
COMMAND = f"#!/{recipe.INTERPRETER} -I\nfrom strongroom.cli.main import run\n\nrun()\n"
ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/:/nonexistent\nworker:x:1000:1000::/tmp:/nonexistent\n",
    "etc/group": "root:x:0:\nworker:x:1000:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True, slots=True)
class Boot:
    """What of the packages is not in the root: the kernel, its modules and what it has built in, and the stub."""

    kernel: bytes
    modules: Mapping[str, bytes]
    built_in: str
    stub: bytes


def read_configuration(path: Path) -> dict[str, bytes]:
    """The files of a configuration by their names: one TOML file, or a folder with `machine.toml` and what it speaks of.

    Raises `FileUnreadable`, or `UsageError` for links and for too much.
    """
    name = posixpath.basename(PLACE)
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    files: dict[str, bytes] = {}
    for one in found:
        if one.is_symlink() and one != path:
            raise UsageError(f"{one} is a link", remedy="Put the file itself into the configuration's folder.")
        if one.is_file():
            try:
                data = one.read_bytes()
            except OSError as error:
                raise FileUnreadable(f"{one}: {error.strerror}") from None
            files[name if one == path else one.relative_to(path).as_posix()] = data
    if name not in files:
        raise FileUnreadable(f"{path}: there is no {name}")
    if len(files) > MAX_CONFIGURATION_FILES or sum(map(len, files.values())) > MAX_CONFIGURATION:
        raise UsageError("a configuration of too many files or bytes", remedy="Put what is large on a disk.")
    return files


@dataclass(frozen=True, slots=True)
class Base:
    """All of an image that its configuration has no say in: the root of packages and wheels, packed, and what boots it."""

    boot: Boot
    root: bytes
    release: bytes
    kernel: str


def build(lock: Lock, folder: Path, configuration: Mapping[str, bytes]) -> bytes:
    """The image. Raises `ImageChanged`, `ImageRefused`, or `Unreadable` errors, and then there is none."""
    _told(configuration)  # before the long work
    return finish(assemble(lock, folder), configuration)


def assemble(lock: Lock, folder: Path) -> Base:
    """Put together what is the same for every configuration. Raises as `build`."""
    tree = Tree()
    boot = _debs(tree, lock, folder)
    _wheels(tree, lock, folder)
    _own(tree)
    tree.drop_dangling()
    recipe.refuse(tree)
    with Inside(tree) as inside:
        inside.compile()
        tree.file(recipe.MANIFEST, tcb.manifest(_rows(lock), _origins(tree)), SELF)
        root = inside.compress(cpio.write_cpio(tree))
    return Base(boot, root, _release(lock), _kernel_of(lock))


def finish(base: Base, configuration: Mapping[str, bytes]) -> bytes:
    """The image of one configuration: an archive of its own before the packed one, as the kernel takes several. Raises as `build`."""
    told, tree = _told(configuration), Tree()
    _configured(tree, told, configuration)
    _modules(tree, base.boot, told, base.kernel)
    tree.file(recipe.CONFIGURED, tcb.manifest([], _origins(tree)), SELF)
    sections = [
        (".osrel", base.release),
        (".cmdline", recipe.COMMAND_LINE.encode("ascii")),
        (".linux", base.boot.kernel),
        (".initrd", cpio.write_cpio(tree) + base.root),
    ]
    return unify(base.boot.stub, sections)


def _told(configuration: Mapping[str, bytes]) -> MachineConfiguration:
    """What a configuration says. Raises `ImageRefused` for files that may not be in an image, and as `from_toml`."""
    tree = Tree()
    for name, data in configuration.items():
        tree.file(f"{posixpath.dirname(PLACE)}/{name}", data, SELF)
        if _PRIVATE.search(data):
            raise ImageRefused(
                f"{name} holds a private key: whoever has the image reads it",
                detail=name,
                remedy="Put public keys into the configuration alone.",
            )
    recipe.refuse_names(tree)
    return from_toml(configuration[posixpath.basename(PLACE)].decode("utf-8", "replace"))


def _origins(tree: Tree) -> dict[str, str]:
    return {path: entry.origin for path, entry in tree if entry.kind != "folder"}


def _debs(tree: Tree, lock: Lock, folder: Path) -> Boot:
    taken: dict[str, bytes] = {}
    for item in lock.deb:
        package = parse_deb(read_item(item, folder))
        _called(item, package.name, package.version)
        kernel = item.name.startswith(recipe.KERNEL)
        for name, entry in package.entries(origin("deb", item)):
            path = clean(name)
            if entry.kind == "file" and (
                path == recipe.STUB or (kernel and path.startswith(("boot/vmlinuz-", tcb.KERNEL_PREFIX)))
            ):
                taken[path] = entry.data
            elif entry.kind != "folder" and recipe.wants_of_deb(path):
                tree.add(path, recipe.marked(path, entry))
    kernels = [path for path in taken if path.startswith("boot/vmlinuz-")]
    built_in = [path for path in taken if path.endswith("/modules.builtin")]
    if len(kernels) != 1 or len(built_in) != 1 or recipe.STUB not in taken:
        raise MalformedImage("the packages of this lock hold no kernel, or no stub", remedy="Lock other versions.")
    drivers = {path: data for path, data in taken.items() if path.endswith(".ko")}
    return Boot(taken[kernels[0]], drivers, taken[built_in[0]].decode("ascii", "replace"), taken[recipe.STUB])


def _wheels(tree: Tree, lock: Lock, folder: Path) -> None:
    for item in lock.wheel:
        wheel = parse_wheel(read_item(item, folder))
        _called(item, wheel.name, wheel.version)
        for path, data in wheel.files.items():
            if recipe.wants_of_wheel(path):
                tree.file(f"{recipe.PACKAGES}/{path}", elf.strip(data), origin("wheel", item))


def _called(item: Item, name: str, version: str) -> None:
    if (item.name, item.version) != (name, version):
        raise MalformedImage(f"{item.file} calls itself {name} {version}", remedy="Make the lock anew.")


def _own(tree: Tree) -> None:
    """What no package brings: folders, accounts, the first process."""
    for name in EMPTY:
        tree.folder(name, SELF)
    for old in ("bin", "sbin", "lib", "lib64"):
        tree.link(old, f"usr/{old}", SELF)
    for path, text in ACCOUNTS.items():
        tree.file(path, text.encode(), SELF)
    tree.file(recipe.INIT, INIT.encode(), SELF, executable=True)
    tree.file(recipe.COMMAND, COMMAND.encode(), SELF, executable=True)


def _configured(tree: Tree, told: MachineConfiguration, configuration: Mapping[str, bytes]) -> None:
    """The configuration, and what follows from it: places of disks, names of hosts."""
    for disk in told.disks:
        tree.folder(disk.place.lstrip("/"), SELF)
    hosts = {"localhost": "127.0.0.1", **(told.network.hosts if told.network else {})}
    lines = "".join(f"{address} {name}\n" for name, address in sorted(hosts.items()))
    tree.file("etc/hosts", lines.encode(), SELF)
    for name, data in configuration.items():
        tree.file(f"{posixpath.dirname(PLACE)}/{name}", data, SELF)


def _modules(tree: Tree, boot: Boot, told: MachineConfiguration, source: str) -> None:
    wanted = [*recipe.MODULES]
    for kind in sorted({disk.filesystem for disk in told.disks}):
        wanted += recipe.FILESYSTEMS[kind]
    order = modules.in_order(wanted, boot.modules, boot.built_in)
    for path in order:
        tree.file(path, boot.modules[path], source)
    tree.file(recipe.MODULE_LIST, "".join(f"/{path}\n" for path in order).encode(), SELF)


def _kernel_of(lock: Lock) -> str:
    return next(origin("deb", item) for item in lock.deb if item.name.startswith(recipe.KERNEL))


def _rows(lock: Lock) -> list[Mapping[str, str]]:
    items = [(origin("deb", item), item) for item in lock.deb] + [(origin("wheel", item), item) for item in lock.wheel]
    return [{"name": one.name, "version": one.version, "digest": one.digest, "origin": name} for name, one in items]


def _release(lock: Lock) -> bytes:
    (ours,) = (item.version for item in lock.wheel if item.name == recipe.OURS)
    return f'ID=strongroom-worker\nNAME="strongroom worker"\nVERSION_ID={ours}\n'.encode("ascii")
