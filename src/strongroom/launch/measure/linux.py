"""What QEMU writes into a kernel that it is given directly, before the firmware measures it.

Knows: the fields of the Linux/x86 boot protocol (kernel.org, "The Linux/x86 Boot Protocol", sections 1.1 and 1.3) that QEMU
fills in: type of loader, heap, command line, and where the initrd lies, which depends on the machine's memory. So the
measurement of a kernel that is booted directly depends on memory and initrd; a unified kernel image's does not.
Does not know: Authenticode (`pe`). Not covered: protocols before 2.12, and kernels that are not programs of UEFI.
"""

from __future__ import annotations

from strongroom.errors import MalformedImage
from strongroom.launch.measure.bounds import little, part

MAGIC, MAGIC_AT = b"HdrS", 0x202
VERSION, LOADER, FLAGS, INITRD, INITRD_SIZE, HEAP, COMMAND_LINE, XFLAGS = (
    0x206, 0x210, 0x211, 0x218, 0x21C, 0x224, 0x228, 0x236,
)  # fmt: skip
OLDEST = 0x20C
LOADED_HIGH, CAN_USE_HEAP, ABOVE_4G = 0x01, 0x80, 0x40
QEMU = 0xB0
REAL_MODE, COMMAND_LINE_ADDRESS = 0x10000, 0x20000
LOW_LIMIT = 0x37FFFFFF
ACPI_BYTES = 0x28000
"""What QEMU's q35 keeps for ACPI tables at the end of low memory."""
LOW_MEMORY, LOW_MEMORY_OF_LARGE = 0xB0000000, 0x80000000
"""How much memory q35 puts below 4 GiB: all, up to the first number; of more, the second."""
PAGE = 4096


def patched(kernel: bytes, initrd_size: int, memory: int) -> bytes:
    """The kernel as QEMU hands it to the firmware of a q35 machine with `memory` bytes. Raises `MalformedImage`."""
    if part(kernel, MAGIC_AT, 4, "the setup header") != MAGIC:
        raise MalformedImage("this is not a kernel for x86: it has no setup header")
    version = little(kernel, VERSION, 2, "the protocol's version")
    flags = little(kernel, FLAGS, 1, "the setup header")
    if version < OLDEST or not flags & LOADED_HIGH:
        raise MalformedImage("this kernel speaks a boot protocol before 2.12")
    image = bytearray(kernel)

    def put(at: int, value: int, size: int) -> None:
        part(kernel, at, size, "the setup header")
        image[at : at + size] = value.to_bytes(size, "little")

    put(LOADER, QEMU, 1)
    put(FLAGS, flags | CAN_USE_HEAP, 1)
    put(HEAP, COMMAND_LINE_ADDRESS - REAL_MODE - 0x200, 4)
    put(COMMAND_LINE, COMMAND_LINE_ADDRESS, 4)
    if initrd_size:
        put(INITRD, initrd_address(little(kernel, XFLAGS, 2, "the flags"), initrd_size, memory), 4)
        put(INITRD_SIZE, initrd_size, 4)
    return bytes(image)


def initrd_address(flags: int, size: int, memory: int) -> int:
    """Where QEMU puts an initrd: as high as it fits below ACPI tables and what the kernel reaches."""
    low = memory if memory < LOW_MEMORY else LOW_MEMORY_OF_LARGE
    highest = 0xFFFFFFFF if flags & ABOVE_4G else LOW_LIMIT
    highest = min(highest, low - ACPI_BYTES - 1)
    if size >= highest:
        raise MalformedImage("the initrd does not fit into the machine's memory")
    return (highest - size) & ~(PAGE - 1)
