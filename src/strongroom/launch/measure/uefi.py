"""The events that OVMF logs on its way up, alike in PCRs and RTMRs: the Secure Boot policy, boot options, images, the end.

Knows: TCG PC Client Platform Firmware Profile 1.06, sections 3.3.4 and 10.4; which events a kernel's EFI stub adds (Linux,
`drivers/firmware/efi/libstub`), and a unified image's stub. The registers are an argument, because TDX has others (UEFI 2.11,
section 38.4.1). Does not know: firmware volumes, ACPI tables. All of it was compared with logs of real boots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.errors import MalformedImage, NotMeasurable
from strongroom.launch.measure.expected import Chain
from strongroom.launch.measure.linux import patched
from strongroom.launch.measure.pe import Program, authenticode, parse_program
from strongroom.launch.measure.uki import UnifiedImage
from strongroom.records.launch import Firmware, LaunchSpec
from strongroom.tee.eventlog import codes
from strongroom.tee.eventlog.efi import EFI_GLOBAL, IMAGE_SECURITY, Variable, serialise_variable

KEYS = (("PK", EFI_GLOBAL), ("KEK", EFI_GLOBAL), ("db", IMAGE_SECURITY), ("dbx", IMAGE_SECURITY))
SEPARATOR = bytes(4)
CALLING = b"Calling EFI Application from Boot Option"
LEAVING = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
FIRMWARE, VARIABLES, KERNEL, INITRD = "firmware", "Secure Boot variables", "kernel", "initrd"
COMMAND_LINE, IMAGE, PATH = "command line", "unified kernel image", "way of booting"
DIRECT_INITRD = " initrd=initrd"
"""What OVMF appends to the command line of a kernel that QEMU gives it with an initrd."""


@dataclass(frozen=True, slots=True)
class Files:
    """What is booted, parsed: a unified image, or a kernel as its file holds it."""

    uki: UnifiedImage | None
    kernel: bytes
    initrd: bytes | memoryview
    command_line: str


def secure_boot(chain: Chain, register: str, firmware: Firmware, variables: Mapping[tuple[str, str], bytes]) -> None:
    """The Secure Boot policy as it is measured before anything is loaded. Raises `NotMeasurable` if the spec says otherwise."""
    enrolled = bool(variables.get((EFI_GLOBAL, "PK")))
    if enrolled != (firmware.secure_boot == "on"):
        keys = "hold a platform key" if enrolled else "hold no platform key"
        raise NotMeasurable(f"Secure Boot is specified as {firmware.secure_boot}, but the variables {keys}")
    value = {"absent": b"", "off": b"\0", "on": b"\1"}[firmware.secure_boot]
    measured = [("SecureBoot", EFI_GLOBAL, value)]
    measured += [(name, guid, variables.get((guid, name), b"")) for name, guid in KEYS]
    for name, guid, content in measured:
        data = serialise_variable(Variable(guid, name, content))
        chain.data(register, codes.EFI_VARIABLE_DRIVER_CONFIG, data, VARIABLES, name)
    chain.data(register, codes.SEPARATOR, SEPARATOR, PATH, "without error")


def images(chain: Chain, register: str, spec: LaunchSpec, files: Files, *, patch: bool = True) -> None:
    """The images that are loaded, and the firmware's word that it begins to boot. Raises `MalformedImage`, `NotMeasurable`."""
    if files.uki is None:
        if spec.firmware is not None and spec.firmware.secure_boot == "on":
            raise NotMeasurable(
                "with Secure Boot, OVMF starts a kernel that QEMU gives it without measuring it, if nobody signed it",
                remedy="Boot a unified kernel image.",
            )
        kernel = files.kernel
        if patch:
            kernel = patched(kernel, len(files.initrd), spec.machine.memory << 20)
        _image(chain, register, _program(kernel), KERNEL)
    chain.data(register, codes.EFI_ACTION, CALLING, PATH, CALLING.decode())
    chain.data(register, codes.SEPARATOR, SEPARATOR, PATH, "without error")
    if files.uki is not None:
        _image(chain, register, files.uki.program, IMAGE)
        _image(chain, register, _program(files.uki.kernel), KERNEL)


def _program(kernel: bytes) -> Program:
    try:
        return parse_program(kernel)
    except MalformedImage as error:
        raise MalformedImage(f"the kernel has no EFI stub: {error.message}") from None


def _image(chain: Chain, register: str, program: Program, origin: str) -> None:
    digest = authenticode(program, chain.algorithm)
    chain.extend(register, codes.EFI_BOOT_SERVICES_APPLICATION, digest, origin, origin)


def sections(chain: Chain, register: str, image: UnifiedImage) -> None:
    """What systemd-stub measures of its image: the name of each section with its NUL, then its content."""
    origins = {".linux": KERNEL, ".cmdline": COMMAND_LINE, ".initrd": INITRD}
    for name, content in image.measured.items():
        for data in (name.encode() + b"\0", content):
            chain.data(register, codes.IPL, data, origins.get(name, f"{name} of the image"), name)


def handed_over(chain: Chain, register: str, spec: LaunchSpec, files: Files) -> None:
    """What the kernel's own EFI stub measures: the command line it was given, and its initrd."""
    direct = files.uki is None and spec.boot.initrd is not None
    line = files.command_line + (DIRECT_INITRD if direct else "")
    data = (line + "\0").encode("utf-16-le")
    chain.data(register, codes.EVENT_TAG, data, COMMAND_LINE, "LOADED_IMAGE::LoadOptions")
    if files.initrd:
        chain.data(register, codes.EVENT_TAG, files.initrd, INITRD, "Linux initrd")


def leaving(chain: Chain, register: str) -> None:
    """The two events with which the firmware hands over."""
    for text in LEAVING:
        chain.data(register, codes.EFI_ACTION, text, PATH, text.decode())
