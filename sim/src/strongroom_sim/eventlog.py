"""Event logs as firmware, loaders and kernels write them, for tests and fake chips.

    EventLog(Style.CCEL, ("sha384",)).boot(command_line="quiet").log

Knows: the bytes of a TCG2 crypto-agile log and of a canonical event log, and what a UEFI boot by shim, GRUB and a kernel,
or by a unified kernel image, measures where. Does not know: how a log is judged (`strongroom.tee.eventlog`). A log made
here proves nothing: registers that replay it are signed under an installation's root alone.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Self

from strongroom.tee.eventlog import codes
from strongroom.tee.eventlog.cel import Cel, Record
from strongroom.tee.eventlog.efi import EFI_GLOBAL, IMAGE_SECURITY, Variable, serialise_variable
from strongroom.tee.eventlog.replay import replay
from strongroom.tee.eventlog.tcg2 import Event, Log, SpecId, Style

SPEC = SpecId(platform_class=0, errata=0, vendor_info=b"")
CERTIFICATE = b"strongroom-sim certificate"
X509_LIST = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
OWNER = bytes(16)
SHIM_LOCK = "605dab50-e046-4300-abb6-3dd810dd8b23"
ALGORITHM_IDS = {name: number for number, name in codes.ALGORITHMS.items()}
INITRD_TAG, LOAD_OPTIONS_TAG = 0x8F3B22EC, 0x8F3B22ED
MR_OF_PCR = {0: 1, 1: 1, 7: 1, **dict.fromkeys(range(2, 7), 2), **dict.fromkeys(range(8, 16), 3)}
"""PCR -> measurement register (UEFI 2.10, 38.4.1); PCR 0 stands for MRTD there, and OVMF measures into RTMR0."""


class EventLog:
    """A log under way; every method adds events and returns the log itself. Registers are named by their PCR."""

    def __init__(self, style: Style = Style.TPM, algorithms: Sequence[str] = ("sha256",)) -> None:
        self._style = style
        self._algorithms = tuple(algorithms)
        self._events: list[Event] = []

    @property
    def log(self) -> Log:
        """The log so far, as its parser reads it."""
        return Log(self._style, SPEC, self._algorithms, tuple(self._events))

    def serialised(self, *, fill: bytes = b"", size: int = 0) -> bytes:
        """The log's bytes; those of a CCEL may be filled up to `size`."""
        return serialise(self.log).ljust(size, fill) if fill else serialise(self.log)

    def event(self, pcr: int, kind: int, data: bytes, over: bytes | None = None) -> Self:
        """An event whose digests are over `over`, or over its data."""
        index = pcr if self._style is Style.TPM else MR_OF_PCR[pcr]
        preimage = data if over is None else over
        digests = tuple((name, hashlib.new(name, preimage).digest()) for name in self._algorithms)
        self._events.append(Event(len(self._events), index, kind, digests, data))
        return self

    def no_action(self, data: bytes) -> Self:
        """An event of which no register hears."""
        digests = tuple((name, bytes(codes.DIGEST_BYTES[name])) for name in self._algorithms)
        self._events.append(Event(len(self._events), 0, codes.NO_ACTION, digests, data))
        return self

    def startup_locality(self, locality: int) -> Self:
        return self.no_action(b"StartupLocality\0" + bytes([locality]))

    def separator(self, pcr: int, value: bytes = bytes(4)) -> Self:
        return self.event(pcr, codes.SEPARATOR, value)

    def action(self, pcr: int, text: str) -> Self:
        return self.event(pcr, codes.EFI_ACTION, text.encode("ascii"))

    def variable(self, pcr: int, kind: int, variable: Variable, *, value_only: bool = False) -> Self:
        """A variable, measured whole or, as boot variables are, by its value."""
        return self.event(pcr, kind, serialise_variable(variable), variable.value if value_only else None)

    def secure_boot(self, *, enabled: bool = True, certificate: bytes = CERTIFICATE) -> Self:
        """SecureBoot, PK, KEK, db and dbx, with one certificate in each key list."""
        keys = signature_list(certificate)
        values = (
            (EFI_GLOBAL, "SecureBoot", bytes([enabled])),
            (EFI_GLOBAL, "PK", keys),
            (EFI_GLOBAL, "KEK", keys),
            (IMAGE_SECURITY, "db", keys),
            (IMAGE_SECURITY, "dbx", b""),
        )
        for guid, name, value in values:
            self.variable(7, codes.EFI_VARIABLE_DRIVER_CONFIG, Variable(guid, name, value))
        return self

    def image(self, content: bytes) -> Self:
        """An application; in place of an Authenticode hash its digest is over `content`."""
        return self.event(4, codes.EFI_BOOT_SERVICES_APPLICATION, bytes(32), content)

    def grub(self, label: str, text: str) -> Self:
        """A text of GRUB's: `grub_cmd`, `kernel_cmdline` or `module_cmdline`."""
        return self.event(8, codes.IPL, f"{label}: {text}\0".encode(), text.encode())

    def file(self, name: str, content: bytes) -> Self:
        """A file that GRUB read."""
        return self.event(9, codes.IPL, name.encode() + b"\0", content)

    def section(self, name: str, content: bytes) -> Self:
        """A section of a unified kernel image, as systemd-stub measures it: its name, then its content."""
        data = (name + "\0").encode("utf-16-le")
        self.event(11, codes.IPL, data, name.encode("ascii") + b"\0")
        return self.event(11, codes.IPL, data, content)

    def stub_command_line(self, text: str) -> Self:
        """A command line that systemd-stub took over from outside its image."""
        return self.event(12, codes.IPL, (text + "\0").encode("utf-16-le"))

    def tag(self, pcr: int, number: int, content: bytes, over: bytes | None = None) -> Self:
        data = number.to_bytes(4, "little") + len(content).to_bytes(4, "little") + content
        return self.event(pcr, codes.EVENT_TAG, data, content if over is None else over)

    def kernel_stub(self, command_line: str, initrd: bytes) -> Self:
        """What the kernel's EFI stub measures."""
        options = (command_line + "\0").encode("utf-16-le")
        self.tag(9, LOAD_OPTIONS_TAG, b"LOADED_IMAGE::LoadOptions\0", options)
        return self.tag(9, INITRD_TAG, b"Linux initrd\0", initrd)

    def firmware(self, *, secure_boot: bool = True, firmware: bytes = b"firmware", acpi: bytes = b"acpi") -> Self:
        """All that the firmware measures before it starts a loader."""
        if self._style is Style.TPM:
            self.event(0, codes.S_CRTM_VERSION, "strongroom-sim 1\0".encode("utf-16-le"))
            self.event(0, codes.EFI_PLATFORM_FIRMWARE_BLOB, bytes(16), firmware)
        else:
            self.event(0, codes.EFI_HANDOFF_TABLES2, b"\x09TdxTable\0" + bytes(32), b"hob")
            self.event(0, codes.EFI_PLATFORM_FIRMWARE_BLOB2, b"\x08firmware" + bytes(16), firmware)
        self.secure_boot(enabled=secure_boot).separator(7)
        self.event(1, codes.PLATFORM_CONFIG_FLAGS, b"ACPI DATA", acpi)
        order = Variable(EFI_GLOBAL, "BootOrder", b"\1\0\0\0")
        self.variable(1, codes.EFI_VARIABLE_BOOT, order, value_only=True)
        self.action(4, "Calling EFI Application from Boot Option")
        for pcr in range(7) if self._style is Style.TPM else (4,):
            self.separator(pcr)
        return self

    def exit(self) -> Self:
        """The firmware hands over to the kernel."""
        return self.action(5, "Exit Boot Services Invocation").action(5, "Exit Boot Services Returned with Success")

    def boot(
        self,
        *,
        command_line: str = "console=ttyS0 ro",
        kernel: bytes = b"kernel",
        initrd: bytes = b"initrd",
        firmware: bytes = b"firmware",
        secure_boot: bool = True,
    ) -> Self:
        """A whole boot by shim and GRUB."""
        self.firmware(secure_boot=secure_boot, firmware=firmware)
        entry = Variable(IMAGE_SECURITY, "db", OWNER + CERTIFICATE)
        self.variable(7, codes.EFI_VARIABLE_AUTHORITY, entry)
        self.event(5, codes.EFI_GPT_EVENT, b"EFI PART" + bytes(84))
        self.image(b"shim").event(14, codes.IPL, b"MokList\0", b"mok")
        self.variable(7, codes.EFI_VARIABLE_AUTHORITY, Variable(SHIM_LOCK, "SbatLevel", b"sbat,1,2021030218\n"))
        self.image(b"grub").file("/boot/grub/grub.cfg", b"configuration")
        self.grub("grub_cmd", f"linux /vmlinuz {command_line}").file("/vmlinuz", kernel)
        self.grub("kernel_cmdline", f"/vmlinuz {command_line}").file("/initrd", initrd)
        return self.image(kernel).exit()

    def unified_boot(self, *, command_line: str = "console=ttyS0 ro", kernel: bytes = b"kernel") -> Self:
        """A whole boot of a unified kernel image."""
        self.firmware().image(b"unified").section(".linux", kernel).section(".osrel", b"ID=strongroom-sim")
        self.section(".cmdline", command_line.encode()).section(".initrd", b"initrd")
        return self.image(kernel).kernel_stub(command_line, b"initrd").exit()


def serialise(log: Log) -> bytes:
    """The bytes of a log."""
    table = b"".join(_u16(ALGORITHM_IDS[name]) + _u16(codes.DIGEST_BYTES[name]) for name in log.algorithms)
    spec = b"Spec ID Event03\0" + _u32(log.spec.platform_class) + bytes([0, 2, log.spec.errata, 2])
    spec += _u32(len(log.algorithms)) + table + bytes([len(log.spec.vendor_info)]) + log.spec.vendor_info
    index = 0 if log.style is Style.TPM else 1
    header = _u32(index) + _u32(codes.NO_ACTION) + bytes(20) + _u32(len(spec)) + spec
    return header + b"".join(_serialise_event(event) for event in log.events)


def renumbered(log: Log, events: Iterable[Event]) -> Log:
    """The log with other events, counted anew: one dropped, repeated or moved."""
    return replace(log, events=tuple(replace(event, number=n) for n, event in enumerate(events)))


def broken_logs(style: Style, algorithms: Sequence[str], bank: str) -> Mapping[str, tuple[bytes, Mapping[int, bytes]]]:
    """For each of the four checks of a log, one that fails exactly there: its bytes, and the registers to quote with it."""
    good = EventLog(style, algorithms).boot()
    registers, whole = replay(good.log, bank), good.serialised()
    shorter = renumbered(good.log, good.log.events[:-1])
    lie = replace(good.log.events[-1], data=b"Exit Boot Services Returned with success")
    lying = renumbered(good.log, [*good.log.events[:-1], lie])
    twice = EventLog(style, algorithms).boot().separator(7).log
    return {
        "log.parse": (whole + b"x", registers),
        "log.replay": (serialise(shorter), registers),
        "log.digests": (serialise(lying), registers),
        "log.events": (serialise(twice), replay(twice, bank)),
    }


def signature_list(certificate: bytes) -> bytes:
    """An EFI_SIGNATURE_LIST of one certificate."""
    entry = OWNER + certificate
    return X509_LIST + _u32(28 + len(entry)) + _u32(0) + _u32(len(entry)) + entry


def cos_cel(contents: Iterable[tuple[int, bytes]], style: Style = Style.CCEL, bank: str = "sha384") -> Cel:
    """A canonical event log of the launcher of Container-Optimized OS: (content type, value) for each record."""
    records = []
    for kind, value in contents:
        content = _tlv(80, _tlv(kind, value))
        digest = hashlib.new(bank, content).digest()
        records.append(Record(13 if style is Style.TPM else 4, ((bank, digest),), content))
    return Cel(style, tuple(records))


def serialise_cel(cel: Cel) -> bytes:
    """The bytes of a canonical event log."""
    kind = 1 if cel.style is Style.TPM else 108
    return b"".join(
        _tlv(0, number.to_bytes(8, "big"))
        + _tlv(kind, bytes([record.index]))
        + _tlv(3, b"".join(_tlv(ALGORITHM_IDS[name], digest) for name, digest in record.digests))
        + record.content
        for number, record in enumerate(cel.records)
    )


def _serialise_event(event: Event) -> bytes:
    digests = b"".join(_u16(ALGORITHM_IDS[name]) + digest for name, digest in event.digests)
    head = _u32(event.index) + _u32(event.type) + _u32(len(event.digests))
    return head + digests + _u32(len(event.data)) + event.data


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(4, "big") + value


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
