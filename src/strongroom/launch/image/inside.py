"""Work that is done by the image's own Python, so that its outcome hangs on what is locked and not on who builds.

Bytecode differs between releases of Python, and compressed bytes between releases of zlib. Both are made here by the interpreter and the
libraries of the image, started by the image's own loader from a folder of their own. The loader would still take a library of this machine
that `/etc/ld.so.preload` names or that the image lacks; so the child looks at what is mapped into it as code, before its work and after it,
and fails if any of that lies elsewhere.

Knows: how that interpreter is started. Does not know: what is in the image. Not covered: building on another architecture than x86-64; a
machine that lies about the child's own maps; keeping the child from the network or from this machine's files.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Self

from strongroom.errors import ImageRefused, Unavailable
from strongroom.launch.image import recipe
from strongroom.launch.image.tree import Tree

PATIENCE = 900.0
MAX_TOLD = 2000
TAG = "cpython-311"
OWN = """
import sys
def own():
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            _, rights, _, _, number, *path = line.rstrip("\\n").split(None, 5)
            if "x" in rights and number != "0" and not "".join(path).startswith(sys.argv[1] + "/"):
                sys.exit("code that is not of the image: " + "".join(path))
"""
"""Ends the child if any file outside its first argument, the root, is mapped into it as code (proc_pid_maps(5))."""
_COMPILE = """
import py_compile, sys
own()
root = sys.argv[1]
unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
for path in sys.stdin.read().splitlines():
    folder, _, name = path.rpartition("/")
    kept = f"{root}/{folder}/__pycache__/{name[:-3]}.TAG.pyc"
    py_compile.compile(f"{root}/{path}", kept, f"/{path}", doraise=True, invalidation_mode=unchecked)
own()
""".replace("TAG", TAG)
_COMPRESS = """
import sys, zlib
own()
packer = zlib.compressobj(6, zlib.DEFLATED, 31)
with open(sys.argv[2], "rb") as plain, open(sys.argv[3], "wb") as packed:
    while part := plain.read(1 << 20):
        packed.write(packer.compress(part))
    packed.write(packer.flush())
own()
"""


class Inside:
    """The image's own interpreter, unpacked into a folder that is gone afterwards."""

    def __init__(self, tree: Tree) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="strongroom-image-")
        self._root = Path(self._folder.name).resolve() / "root"
        self._tree = tree
        for path, entry in tree:
            native = entry.data[:4] == b"\x7fELF" and path.startswith(recipe.PACKAGES)
            if not path.startswith("usr/") or path.startswith("usr/lib/modules/") or native:
                continue
            target = self._root / path
            if entry.kind == "folder":
                target.mkdir(parents=True, exist_ok=True)
            elif entry.kind == "file":
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(entry.data)
                target.chmod(0o755 if entry.executable else 0o644)
            elif (found := tree.resolve(path)) is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(self._root / found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def compile(self) -> None:
        """Bytecode for every Python file of the tree, which Python takes without a look at the file's time."""
        sources = [path for path, _ in self._tree.files() if path.startswith("usr/") and path.endswith(".py")]
        self._run(_COMPILE, given="\n".join(sources))
        for path in sources:
            folder, _, name = path.rpartition("/")
            kept = f"{folder}/__pycache__/{name[:-3]}.{TAG}.pyc"
            self._tree.file(kept, (self._root / kept).read_bytes(), self._tree.entries[path].origin)

    def compress(self, data: bytes) -> bytes:
        """`data` as gzip, without name or time."""
        plain, packed = self._root.parent / "plain", self._root.parent / "packed"
        plain.write_bytes(data)
        self._run(_COMPRESS, str(plain), str(packed))
        return packed.read_bytes()

    def _run(self, code: str, *arguments: str, given: str = "") -> None:
        root = self._root
        command = [
            str(root / recipe.LOADER),
            "--inhibit-cache",
            "--library-path",
            str(root / recipe.LIBRARIES),
            str(root / recipe.INTERPRETER),
        ]
        environment = {"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
        try:
            ran = subprocess.run(
                [*command, "-s", "-S", "-P", "-B", "-c", OWN + code, str(root), *arguments],
                input=given.encode(),
                capture_output=True,
                check=False,
                timeout=PATIENCE,
                env=environment,
                cwd=root,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(
                f"the image's own Python does not run here: {error}",
                remedy="Build on a Linux machine with an x86-64 CPU.",
            ) from None
        if ran.returncode:
            raise ImageRefused(
                "the image's own Python failed",
                detail=ran.stderr.decode("utf-8", "replace")[-MAX_TOLD:],
                remedy="Read what it says: a file of a package may not compile, or the image lacks a library.",
            )
