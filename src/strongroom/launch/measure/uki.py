"""Unified kernel images: what systemd-stub measures of itself before the kernel runs.

Knows: the UKI specification (uapi-group.org, "Unified Kernel Image") and the order in which systemd-stub of each version
measures its sections into PCR 11 (systemd, `src/fundamental/uki.h` and `src/boot`: name with its NUL, then content). Does not
know: how registers are extended (`tpm`, `tdx`). Not covered: images of several profiles, and stubs older than 252, which
are refused, because nobody could say what they measure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.errors import MalformedImage
from strongroom.launch.measure.pe import Program, parse_program

_STUB = re.compile(rb"#### LoaderInfo: systemd-stub (\d{3})")
OLDEST = 252
ORDER = (
    (".linux", 252),
    (".osrel", 252),
    (".cmdline", 252),
    (".initrd", 252),
    (".ucode", 256),
    (".splash", 252),
    (".dtb", 252),
    (".uname", 253),
    (".sbat", 253),
    (".pcrpkey", 252),
    (".dtbauto", 257),
    (".hwids", 257),
    (".efifw", 258),
)
"""Measured sections in their order, with the first version of systemd-stub that measures them; `.pcrsig` never is."""
MAX_COMMAND_LINE = 64 * 1024
_LINE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class UnifiedImage:
    """A parsed UKI: the program itself, the version of its stub, and the sections that are measured, in order."""

    program: Program
    stub: int
    measured: Mapping[str, bytes | memoryview]

    @property
    def kernel(self) -> bytes:
        return bytes(self.measured[".linux"])

    @property
    def initrd(self) -> bytes | memoryview:
        return self.measured.get(".initrd", b"")

    @property
    def command_line(self) -> str:
        """The command line that is built in, as the stub gives it to the kernel. Raises `MalformedImage`.

        Also where something stands behind a NUL, which the kernel never sees, or there is a control character, which stubs change.
        """
        line = bytes(self.measured.get(".cmdline", b"")).rstrip(b"\0\n ").decode("ascii", "replace")
        if _LINE.fullmatch(line) is None:
            raise MalformedImage("the command line of this image is not one line of printable ASCII")
        return line


def parse_uki(data: bytes) -> UnifiedImage:
    """Read a unified kernel image. Raises `MalformedImage`."""
    program = parse_program(data)
    names = [section.name for section in program.sections]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled & {name for name, _ in ORDER} or ".profile" in names:
        raise MalformedImage("images of several profiles are not measured here", remedy="Build one image a profile.")
    sections = {section.name: section for section in program.sections}
    if ".linux" not in sections or ".sdmagic" not in sections:
        raise MalformedImage("this program is not a unified kernel image: it lacks .linux or .sdmagic")
    found = _STUB.search(program.content(sections[".sdmagic"]))
    if found is None or int(found[1]) < OLDEST:
        raise MalformedImage(f"the stub of this image is not systemd's, or older than {OLDEST}")
    stub = int(found[1])
    if ".cmdline" in sections and sections[".cmdline"].virtual_size > MAX_COMMAND_LINE:
        raise MalformedImage("the command line of this image is too long")
    wanted = [name for name, since in ORDER if since <= stub and name in sections]
    measured = {name: program.content(sections[name]) for name in wanted if sections[name].virtual_size}
    if ".linux" not in measured:
        raise MalformedImage("the kernel of this image is empty")
    return UnifiedImage(program, stub, measured)
