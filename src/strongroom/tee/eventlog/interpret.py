"""What a log says about how the machine booted: facts, each from events whose digest was computed again.

Knows: which events a firmware must log, once and in which order (Platform Firmware Profile 1.06, sections 3.3.4 and 10),
in which registers, and the disguises against which an order of types alone is no defence. Does not know: what anyone
wants of these facts (`appraisal`). Not covered: IMA, Windows' events, td-shim's order of events.

A log is written by the one who is examined; only digests and their order within a register are proved. So the whole log
is refused, with `MalformedEvidence`, if

    an event is unknown, or its data is not what was measured;
    an event has the digest of a separator, of a firmware action or of the SecureBoot variable, and says to be something
    else (one could hide the true value behind a label and measure a better one later);
    a separator is missing, is there twice or is not zero (0x00000001 is an error that the firmware reports; 0xFFFFFFFF is
    the success of firmware of long ago, and refused);
    SecureBoot, PK, KEK, db and dbx are not all there, once, in this order and before the separator of their register;
    something stands where only other things are measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog import codes
from strongroom.tee.eventlog.digests import (
    GCE_INFO,
    SEPARATOR_ERROR,
    WHOLE_VARIABLE,
    Judgement,
    Standing,
    grub_text,
    judge,
    section_name,
    tagged,
)
from strongroom.tee.eventlog.efi import (
    EFI_GLOBAL,
    IMAGE_SECURITY,
    Signature,
    Variable,
    narrow_text,
    parse_database,
    parse_variable,
    serialise_variable,
    wide_text,
)
from strongroom.tee.eventlog.layout import LAYOUTS, LOADER, Layout
from strongroom.tee.eventlog.replay import register_name, register_of, startup_locality
from strongroom.tee.eventlog.tcg2 import Event, Log, Style

NO_ERROR = bytes(4)
SEPARATORS = {NO_ERROR: "a separator", b"\xff" * 4: "an old separator", SEPARATOR_ERROR: "an error"}
CALLING = b"Calling EFI Application from Boot Option"
INVOCATION = b"Exit Boot Services Invocation"
FAILURE = b"Exit Boot Services Returned with Failure"
SUCCESS = b"Exit Boot Services Returned with Success"
DEBUGGER = "UEFI Debug Mode"
OTHER_ACTIONS = (DEBUGGER.encode(), b"DMA Protection Disabled")
TECHNOLOGIES = ("none", "sev", "sev-es", "tdx", "sev-snp")
GCE_INFO_BYTES = 32
SECURE_BOOT = (
    (EFI_GLOBAL, "SecureBoot"),
    (EFI_GLOBAL, "PK"),
    (EFI_GLOBAL, "KEK"),
    (IMAGE_SECURITY, "db"),
    (IMAGE_SECURITY, "dbx"),
)
BOOT_VARIABLES = {codes.EFI_VARIABLE_BOOT, codes.EFI_VARIABLE_BOOT2}
WHOLE_VARIABLES = BOOT_VARIABLES | {
    codes.EFI_VARIABLE_DRIVER_CONFIG,
    codes.EFI_VARIABLE_AUTHORITY,
    codes.EFI_SPDM_DEVICE_POLICY,
    codes.EFI_SPDM_DEVICE_AUTHORITY,
}


@dataclass(frozen=True, slots=True)
class SecureBoot:
    """The state of Secure Boot and its databases, as the firmware measured them."""

    enabled: bool
    pk: tuple[Signature, ...]
    kek: tuple[Signature, ...]
    db: tuple[Signature, ...]
    dbx: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Authority:
    """What else was measured beside the Secure Boot variables: its name and the SHA-256 (hex) of its value.

    These are the database entries by which images were admitted (`db`), and settings of shim's (`SbatLevel`).
    """

    guid: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Something that is not in the log itself. The digest (hex) is proved; what it is called is the log's word alone."""

    register: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a log proves.

    `firmware_version` is empty and `gce_technology` None where nothing was measured. `exit_boot_services` says that the
    firmware handed over, after which its registers hold nothing that a running system added. `grub_commands`,
    `kernel_command_lines` and `module_command_lines` are the texts that the loader measured, in order; their kind is the
    loader's label, which no digest covers. `images` are the Authenticode digests of drivers and applications, in order.
    `measured` are kernels, initrds, files, sections and load options: only their digests are proved.
    """

    style: Style
    bank: str
    secure_boot: SecureBoot
    authorities: tuple[Authority, ...]
    firmware_version: str
    gce_technology: str | None
    startup_locality: int
    actions: tuple[str, ...]
    exit_boot_services: bool
    grub_commands: tuple[str, ...]
    kernel_command_lines: tuple[str, ...]
    module_command_lines: tuple[str, ...]
    images: tuple[str, ...]
    measured: tuple[Measured, ...]


def interpret(log: Log, bank: str) -> Facts:
    """The facts of a log that replays in `bank`. Raises `MalformedEvidence` if any event is not as it must be."""
    judgements = judge(log, bank)
    _check_known(judgements)
    _check_disguises(log, bank)
    _check_separators(log)
    layout = LAYOUTS[log.style]
    _check_places(log, judgements, layout)
    texts = tuple(_texts(log, judgements, layout))
    return Facts(
        style=log.style,
        bank=bank,
        secure_boot=_secure_boot(log, layout),
        authorities=tuple(_authorities(log, judgements, layout)),
        firmware_version=_firmware_version(log, layout),
        gce_technology=_gce_technology(log, layout),
        startup_locality=startup_locality(log),
        actions=tuple(_action(event) for event in log.events if event.type == codes.EFI_ACTION),
        exit_boot_services=_exit(log, layout),
        grub_commands=tuple(text for kind, text in texts if kind == "command"),
        kernel_command_lines=tuple(text for kind, text in texts if kind == "kernel"),
        module_command_lines=tuple(text for kind, text in texts if kind == "module"),
        images=tuple(_images(log, judgements, layout, bank)),
        measured=tuple(_measured(log, judgements, bank)),
    )


def _place(log: Log, event: Event) -> str:
    return f"event {event.number} ({event.name} in {register_name(log.style, register_of(log.style, event.index))})"


def _in(log: Log, register: int) -> Iterator[Event]:
    """The events by which `register` was extended, in order."""
    return (e for e in log.events if e.extended and register_of(log.style, e.index) == register)


def _check_known(judgements: Sequence[Judgement]) -> None:
    for judgement in judgements:
        event = judgement.event
        if judgement.standing is Standing.UNKNOWN:
            raise MalformedEvidence(f"event {event.number} ({event.name}) is of a kind that nothing here interprets")
        if judgement.standing is Standing.MISMATCH:
            raise MalformedEvidence(f"event {event.number} ({event.name}) was not measured as it is logged")


def _check_disguises(log: Log, bank: str) -> None:
    """What firmware measures with few possible values is told by its digest; whoever has that digest must be it.

    One honest event shares a digest: a BootOrder of Boot0001, Boot0000 has the bytes of a separator's error. It may: an
    error leaves its register without the separator that must be there.
    """
    variables = (Variable(EFI_GLOBAL, "SecureBoot", value) for value in (b"", b"\0", b"\1"))
    telling = {
        codes.SEPARATOR: tuple(SEPARATORS),
        codes.EFI_ACTION: (CALLING, INVOCATION, FAILURE, SUCCESS, *OTHER_ACTIONS),
        codes.EFI_VARIABLE_DRIVER_CONFIG: tuple(serialise_variable(variable) for variable in variables),
    }
    types = {codes.hashed(bank, data): kind for kind, values in telling.items() for data in values}
    for event in log.events:
        wanted = types.get(event.digest(bank)) if event.extended else None
        if wanted is not None and wanted != event.type and not _is_boot_order(event):
            raise MalformedEvidence(f"{_place(log, event)} is a {codes.NAMES[wanted]} in disguise")


def _is_boot_order(event: Event) -> bool:
    if event.type not in BOOT_VARIABLES:
        return False
    variable = parse_variable(event.data)
    return variable == Variable(EFI_GLOBAL, "BootOrder", SEPARATOR_ERROR)


def _check_separators(log: Log) -> None:
    seen: set[int] = set()
    for event in log.events:
        if event.type != codes.SEPARATOR:
            continue
        if event.data != NO_ERROR:
            raise MalformedEvidence(f"{_place(log, event)} is {SEPARATORS.get(event.data, 'an error')}")
        if event.index in seen:
            raise MalformedEvidence(f"{_place(log, event)} is the second separator of its register")
        seen.add(event.index)
    registers = {register_of(log.style, index) for index in seen}
    missing = [register for register in LAYOUTS[log.style].separators if register not in registers]
    if missing:
        raise MalformedEvidence(f"{register_name(log.style, missing[0])} has no separator")


def _check_places(log: Log, judgements: Sequence[Judgement], layout: Layout) -> None:
    for judgement in judgements:
        event = judgement.event
        register = register_of(log.style, event.index)
        if not event.extended:
            continue
        if register == layout.secure_boot and event.type not in layout.secure_boot_types:
            raise MalformedEvidence(f"{_place(log, event)} has no place among the Secure Boot variables")
        if event.type == codes.EFI_VARIABLE_AUTHORITY and register != layout.secure_boot:
            raise MalformedEvidence(f"{_place(log, event)} belongs to the Secure Boot variables")
        if register in layout.loaders and event.type not in LOADER:
            raise MalformedEvidence(f"{_place(log, event)} has no place among what loaders measure")
        text = event.type == codes.IPL and judgement.standing is Standing.RECOMPUTED
        if register in layout.only_text and not text:
            raise MalformedEvidence(f"{_place(log, event)} is no text that a loader measured")


def _before_separator(log: Log, register: int) -> Iterator[Event]:
    for event in _in(log, register):
        if event.type == codes.SEPARATOR:
            return
        yield event


def _secure_boot(log: Log, layout: Layout) -> SecureBoot:
    found: dict[str, bytes] = {}
    early = {event.number for event in _before_separator(log, layout.secure_boot)}
    for event in log.events:
        if event.type != codes.EFI_VARIABLE_DRIVER_CONFIG:
            continue
        variable = parse_variable(event.data)
        if (variable.guid, variable.name) not in SECURE_BOOT:
            continue
        if event.number not in early:
            raise MalformedEvidence(f"{_place(log, event)} gives {variable.name} where it cannot be trusted")
        if variable.name in found:
            raise MalformedEvidence(f"{_place(log, event)} gives {variable.name} a second time")
        found[variable.name] = variable.value
    if tuple(found) != tuple(name for _, name in SECURE_BOOT):
        raise MalformedEvidence(f"the Secure Boot variables are {', '.join(found) or 'missing'}")
    state = found.pop("SecureBoot")
    if state not in {b"", b"\0", b"\1"}:
        raise MalformedEvidence("the variable SecureBoot is neither on nor off")
    databases = {name.lower(): parse_database(value) for name, value in found.items()}
    if state == b"\1" and not (databases["pk"] and databases["kek"] and databases["db"]):
        raise MalformedEvidence("Secure Boot is on without keys")
    return SecureBoot(enabled=state == b"\1", **databases)


def _authorities(log: Log, judgements: Sequence[Judgement], layout: Layout) -> Iterator[Authority]:
    """Every other variable that was measured whole there, whatever type it is given: so none is hidden."""
    for judgement in judgements:
        event = judgement.event
        if event.type not in WHOLE_VARIABLES or register_of(log.style, event.index) != layout.secure_boot:
            continue
        entry = parse_variable(event.data, exact=False)
        boot = event.type in BOOT_VARIABLES and (judgement.over != WHOLE_VARIABLE or entry.guid == EFI_GLOBAL)
        state = event.type == codes.EFI_VARIABLE_DRIVER_CONFIG and (entry.guid, entry.name) in SECURE_BOOT
        if not boot and not state:
            yield Authority(entry.guid, entry.name, hashlib.sha256(entry.value).hexdigest())


def _only_early(log: Log, layout: Layout, events: Iterable[Event]) -> Event | None:
    """The one event, if any, that the firmware measured before its separator."""
    found = list(events)
    if len(found) > 1:
        raise MalformedEvidence(f"{_place(log, found[1])} says again what was said before")
    if found and found[0] not in _before_separator(log, layout.firmware):
        raise MalformedEvidence(f"{_place(log, found[0])} was not measured by the firmware")
    return found[0] if found else None


def _firmware_version(log: Log, layout: Layout) -> str:
    event = _only_early(log, layout, (e for e in log.events if e.type == codes.S_CRTM_VERSION))
    if event is None:
        return ""
    return wide_text(event.data) or narrow_text(event.data) or event.data.hex()


def _gce_technology(log: Log, layout: Layout) -> str | None:
    said = (e for e in log.events if e.type == codes.NONHOST_INFO and e.data.startswith(GCE_INFO))
    event = _only_early(log, layout, said)
    if event is None:
        return None
    number = event.data[len(GCE_INFO)] if len(event.data) == GCE_INFO_BYTES else len(TECHNOLOGIES)
    if number >= len(TECHNOLOGIES):
        raise MalformedEvidence(f"{_place(log, event)} names a technology that is not known")
    return TECHNOLOGIES[number]


def _action(event: Event) -> str:
    text = narrow_text(event.data)
    if text is None or text == DEBUGGER:
        raise MalformedEvidence(f"event {event.number} is the firmware action {text or 'without a name'}")
    return text


def _exit(log: Log, layout: Layout) -> bool:
    """Whether the firmware handed over, at the end of its register: invocation, then success, then nothing."""
    events = list(_in(log, layout.exit))
    exits = [e for e in log.events if e.type == codes.EFI_ACTION and e.data in {INVOCATION, FAILURE, SUCCESS}]
    for event in exits:
        if register_of(log.style, event.index) != layout.exit:
            raise MalformedEvidence(f"{_place(log, event)} is not where the end of boot services is measured")
    succeeded = [position for position, event in enumerate(events) if event in exits and event.data == SUCCESS]
    if not succeeded:
        return False
    if succeeded[0] != len(events) - 1:
        raise MalformedEvidence(f"{_place(log, events[succeeded[0] + 1])} comes after the end of boot services")
    if len(exits) < 2 or exits[-2].data != INVOCATION:  # noqa: PLR2004 (invocation and success)
        raise MalformedEvidence("boot services ended without an invocation")
    return True


def _texts(log: Log, judgements: Sequence[Judgement], layout: Layout) -> Iterator[tuple[str, str]]:
    """`command`, `kernel` or `module`, and the text, of each that a loader measured."""
    for judgement in judgements:
        event = judgement.event
        if event.type != codes.IPL or judgement.standing is not Standing.RECOMPUTED:
            continue
        register = register_of(log.style, event.index)
        grub = grub_text(event.data)
        if grub is not None:
            text = narrow_text(grub[1])
            if register not in layout.commands or (text is None and grub[1].strip(b"\0")):
                raise MalformedEvidence(f"{_place(log, event)} is no command of GRUB's")
            yield grub[0], text or ""
        elif section_name(event.data) is None:
            line = wide_text(event.data)
            if register not in layout.command_lines or line is None:
                raise MalformedEvidence(f"{_place(log, event)} is a text where none is measured")
            yield "kernel", line


def _images(log: Log, judgements: Sequence[Judgement], layout: Layout, bank: str) -> Iterator[str]:
    """All that is not in the log where images are measured, whatever it is called: so none is hidden."""
    for judgement in judgements:
        register = register_of(log.style, judgement.event.index)
        if register in layout.images and judgement.standing is Standing.OPAQUE:
            yield judgement.event.digest(bank).hex()


def _measured(log: Log, judgements: Sequence[Judgement], bank: str) -> Iterator[Measured]:
    """Named things whose content is not in the log; the sections of a unified kernel image as name, then content."""
    awaited: dict[int, str] = {}
    for judgement in judgements:
        event = judgement.event
        if event.type not in {codes.IPL, codes.EVENT_TAG}:
            continue
        section = section_name(event.data) if event.type == codes.IPL else None
        recomputed = judgement.standing is Standing.RECOMPUTED and event.type == codes.IPL
        if awaited.pop(event.index, None) != (None if recomputed else section):
            raise MalformedEvidence(f"{_place(log, event)} breaks the sequence of names and sections")
        if recomputed:
            if section is not None:
                awaited[event.index] = section
            continue
        register = register_name(log.style, register_of(log.style, event.index))
        yield Measured(register, _name(event), event.digest(bank).hex())
    if awaited:
        raise MalformedEvidence(f"the section {next(iter(awaited.values()))} was announced and not measured")


def _name(event: Event) -> str:
    data = tagged(event.data)[1] if event.type == codes.EVENT_TAG else event.data
    return wide_text(data) or narrow_text(data) or ""
