"""Each event's digest, computed again from its data, wherever something says what the digest is over.

Knows: Platform Firmware Profile 1.06, sections 3.3 and 10; what EDK II, shim, GRUB, the kernel's EFI stub and
systemd-stub hash where they log something else than the hashed bytes. Does not know: what an event means
(`interpret`). No event is passed over: an event whose type, or whose content, nothing here describes is `unknown`.

The digest vouches for what it is over and for nothing else in the event: not for its type, not for a label such as
`grub_cmd: `, not for the name of a file, not for the name of an EV_EFI_VARIABLE_BOOT variable.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog import codes
from strongroom.tee.eventlog.efi import narrow_text, parse_variable, serialise_variable, wide_text
from strongroom.tee.eventlog.tcg2 import Event, Log

SEPARATOR_ERROR = (1).to_bytes(4, "little")
GRUB_PREFIXES = {
    b"grub_cmd: ": "command",
    b"kernel_cmdline: ": "kernel",
    b"module_cmdline: ": "module",
    b"grub_cmd ": "command",  # GRUB of Red Hat's before 2.06
    b"grub_kernel_cmdline ": "kernel",
}
GCE_INFO = b"GCE NonHostInfo\0"
TAGS = {
    0x8F3B22EC: "the initrd that the kernel's EFI stub loaded",
    0x8F3B22ED: "the command line that the kernel's EFI stub was given",
    0xF5BC582A: "systemd-boot's loader.conf",
    0x6C46F751: "a device tree addon of systemd-stub",
    0x49DFFE0F: "an initrd addon of systemd-stub",
    0xDAC08E1A: "a microcode addon of systemd-stub",
    0x13AED6DB: "the profile of a unified kernel image",
    0xD5CB7CBC: "SMBIOS, type 1",
    0xE0D47BC8: "SMBIOS, type 2",
    0xC0B3BD23: "SMBIOS, type 11",
}
TAG_HEADER_BYTES = 8
WHOLE_VARIABLE = "the variable: GUID, name and value"
NO_ACTION_SIGNATURES = (
    b"StartupLocality\0",
    b"SP800-155 Event\0",
    b"SP800-155 Event2",
    b"SP800-155 Event3",
    b"H-CRTM CompMeas\0",
    b"NvIndexInstance\0",
    b"NvIndexDynamic\0\0",
)


class Standing(enum.StrEnum):
    """What the digest of an event proves."""

    RECOMPUTED = "recomputed"
    MISMATCH = "mismatch"
    OPAQUE = "opaque"
    NOT_EXTENDED = "not-extended"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """An event and its standing. `over` says in words what the digest is over, as far as it is known."""

    event: Event
    standing: Standing
    over: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What a digest may be over: each of `preimages` with its name, or else what `opaque` names, which is not in the log.

    `opaque` is None where nothing else is right (a mismatch), and empty where nothing is known (unknown).
    """

    preimages: tuple[tuple[bytes, str], ...]
    opaque: str | None


def judge(log: Log, bank: str) -> tuple[Judgement, ...]:
    """Every event's standing in `bank`, in order. Raises `MalformedEvidence` if the log has no such bank."""
    return tuple(judge_event(event, bank) for event in log.events)


def judge_event(event: Event, bank: str) -> Judgement:
    """One event's standing in `bank`. Raises `MalformedEvidence` if the event has no such digest."""
    digest = event.digest(bank)
    if not event.extended:
        known = event.data.startswith(NO_ACTION_SIGNATURES)
        return Judgement(event, Standing.NOT_EXTENDED if known else Standing.UNKNOWN, "nothing")
    make = RULES.get(event.type)
    if make is None:
        return Judgement(event, Standing.UNKNOWN, "")
    try:
        rule = make(event.data)
    except MalformedEvidence as error:
        return Judgement(event, Standing.MISMATCH, error.message)
    for preimage, name in rule.preimages:
        if codes.hashed(bank, preimage) == digest:
            return Judgement(event, Standing.RECOMPUTED, name)
    if rule.opaque is None:
        return Judgement(event, Standing.MISMATCH, " or ".join(name for _, name in rule.preimages))
    return Judgement(event, Standing.OPAQUE if rule.opaque else Standing.UNKNOWN, rule.opaque)


def grub_text(data: bytes) -> tuple[str, bytes] | None:
    """What GRUB logged: `command`, `kernel` or `module`, and the text that it hashed, with the NUL behind it if any."""
    for prefix, what in GRUB_PREFIXES.items():
        if data.startswith(prefix):
            return what, data.removeprefix(prefix)
    return None


def section_name(data: bytes) -> str | None:
    """The section of a unified kernel image (`.linux`) that an EV_IPL event of systemd-stub names, or None."""
    text = wide_text(data)
    return text if text is not None and text.startswith(".") and text.isascii() and " " not in text else None


def tagged(data: bytes) -> tuple[int, bytes]:
    """The number and content of a TCG_PCClientTaggedEvent. Raises `MalformedEvidence`."""
    number, size = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:TAG_HEADER_BYTES], "little")
    content = data[TAG_HEADER_BYTES:]
    if len(data) < TAG_HEADER_BYTES or size != len(content):
        raise MalformedEvidence("a tagged event whose size is wrong")
    return number, content


def _data(data: bytes) -> Rule:
    return Rule(((data, "the event's data"),), None)


def _data_or(what: str) -> Callable[[bytes], Rule]:
    """Events that stand for something that is not in the log, but in some firmware are the thing itself."""
    return lambda data: Rule(((data, "the event's data"),), what)


def _only(what: str) -> Callable[[bytes], Rule]:
    return lambda _: Rule((), what)


def _separator(data: bytes) -> Rule:
    return Rule(((data, "the separator's value"), (SEPARATOR_ERROR, "the value of an error")), None)


def _variable(data: bytes) -> Rule:
    parse_variable(data)
    return Rule(((data, WHOLE_VARIABLE),), None)


def _boot_variable(data: bytes) -> Rule:
    variable = parse_variable(data)
    return Rule(((variable.value, "the variable's value"), (data, WHOLE_VARIABLE)), None)


def _authority(data: bytes) -> Rule:
    """Shim before 15.3 logs bytes behind the variable and hashes all but the last of them."""
    variable = parse_variable(data, exact=False)
    whole = (data, "the entry: GUID, name and value")
    longer = serialise_variable(variable) != data
    return Rule((whole, (data[:-1], "the entry, and bytes behind it")) if longer else (whole,), None)


def _nonhost_info(data: bytes) -> Rule:
    return _data(data) if data.startswith(GCE_INFO) else _data_or("what a device beside the host says")(data)


def _ipl(data: bytes) -> Rule:
    """What loaders hash.

    GRUB hashes the text behind its label, and files; systemd-stub the name of a section and then its content, and texts.
    """
    grub = grub_text(data)
    if grub is not None:
        return Rule(((grub[1].removesuffix(b"\0"), "the text"), (grub[1], "the text and a NUL")), None)
    section = section_name(data)
    if section is not None:
        name = section.encode("ascii") + b"\0"
        return Rule(((name, "the section's name"),), f"the section {section} of a unified kernel image")
    line, called = wide_text(data), narrow_text(data)
    opaque = f"what is called {line or called}" if line or called else ""
    return Rule(((data, "the text"),) if line else (), opaque)


def _tag(data: bytes) -> Rule:
    number, content = tagged(data)
    return Rule(((content, "the tag's content"), (data, "the event's data")), TAGS.get(number, ""))


RULES: dict[int, Callable[[bytes], Rule]] = {
    codes.SEPARATOR: _separator,
    codes.ACTION: _data,
    codes.EFI_ACTION: _data,
    codes.S_CRTM_VERSION: _data,
    codes.OMIT_BOOT_DEVICE_EVENTS: _data,
    codes.EFI_GPT_EVENT: _data,
    codes.EFI_VARIABLE_DRIVER_CONFIG: _variable,
    codes.EFI_VARIABLE_BOOT: _boot_variable,
    codes.EFI_VARIABLE_BOOT2: _boot_variable,
    codes.EFI_VARIABLE_AUTHORITY: _authority,
    codes.EFI_SPDM_DEVICE_POLICY: _variable,
    codes.EFI_SPDM_DEVICE_AUTHORITY: _variable,
    codes.NONHOST_INFO: _nonhost_info,
    codes.IPL: _ipl,
    codes.EVENT_TAG: _tag,
    codes.POST_CODE: _data_or("firmware that ran before UEFI"),
    codes.POST_CODE2: _data_or("firmware that ran before UEFI"),
    codes.S_CRTM_CONTENTS: _data_or("the static root of trust"),
    codes.CPU_MICROCODE: _data_or("a microcode update"),
    codes.PLATFORM_CONFIG_FLAGS: _data_or("the platform's configuration, such as its ACPI tables"),
    codes.TABLE_OF_DEVICES: _data_or("the platform's devices"),
    codes.COMPACT_HASH: _data_or("what the measuring program chose"),
    codes.IPL_PARTITION_DATA: _data_or("a partition table"),
    codes.NONHOST_CODE: _data_or("code of a device beside the host"),
    codes.NONHOST_CONFIG: _data_or("configuration of a device beside the host"),
    codes.EFI_GPT_EVENT2: _data_or("the partition table without its GUIDs"),
    codes.EFI_BOOT_SERVICES_APPLICATION: _only("an image: its Authenticode hash"),
    codes.EFI_BOOT_SERVICES_DRIVER: _only("a driver: its Authenticode hash"),
    codes.EFI_RUNTIME_SERVICES_DRIVER: _only("a runtime driver: its Authenticode hash"),
    codes.EFI_PLATFORM_FIRMWARE_BLOB: _only("a part of the firmware"),
    codes.EFI_PLATFORM_FIRMWARE_BLOB2: _only("a part of the firmware"),
    codes.EFI_HANDOFF_TABLES: _only("tables that the firmware hands on"),
    codes.EFI_HANDOFF_TABLES2: _only("tables that the firmware hands on"),
    codes.EFI_HCRTM_EVENT: _only("the hardware root of trust for measurement"),
    codes.EFI_SPDM_FIRMWARE_BLOB: _only("a device's firmware"),
    codes.EFI_SPDM_FIRMWARE_CONFIG: _only("a device's configuration"),
}
