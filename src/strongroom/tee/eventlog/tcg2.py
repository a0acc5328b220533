"""The bytes of a TCG2 crypto-agile event log, of a TPM or of a CCEL, read totally.

Knows: TCG PC Client Platform Firmware Profile 1.06, sections 9 and 10 (TCG_PCR_EVENT with the Spec ID Event03, then
TCG_PCR_EVENT2), and how UEFI 2.10 chapter 38 uses the same form for a CC event log. All integers are little-endian.
Does not know: whether the log is true (`replay`, `digests`), what it means (`interpret`). Refused, with
`MalformedEvidence`: logs of the older SHA-1 form and 32-bit ones; unknown hashes; digests that are not exactly those
that the header announces; registers that do not exist; EV_NO_ACTION with a digest, since it is never extended; sizes
beyond the limits.

What may follow the last event: nothing in a TPM's log. The area of a CCEL has a fixed size, so there the rest, if any,
must be fill: every byte 0xFF, or every byte 0x00, up to the end. An event begins with fill in neither case: no register
has the number 0xFFFFFFFF, and no event has type 0 or no digests.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog.codes import ALGORITHMS, DIGEST_BYTES, NAMES, NO_ACTION

MAX_LOG_BYTES = 1 << 20
MAX_EVENTS = 4096
MAX_EVENT_BYTES = 1 << 18
MAX_ALGORITHMS = 8
SPEC_ID = b"Spec ID Event03\0"
LEGACY_DIGEST_BYTES = 20
UINTN_64 = 2
FILL_PROBE_BYTES = 16
LAST_PCR = 23
LAST_MR = 4


class Style(enum.StrEnum):
    """Whose log: a TPM's, indexed by PCR; or a CC one, indexed by measurement register (0 MRTD, n+1 RTMRn)."""

    TPM = "tpm"
    CCEL = "ccel"


@dataclass(frozen=True, slots=True)
class Event:
    """One TCG_PCR_EVENT2. `number` counts the log's events from 0, without its header; `index` is as the log says it."""

    number: int
    index: int
    type: int
    digests: tuple[tuple[str, bytes], ...]
    data: bytes

    @property
    def name(self) -> str:
        """The type's name in the specification, or its number."""
        return NAMES.get(self.type, f"event type {self.type:#010x}")

    @property
    def extended(self) -> bool:
        """Whether the register was extended by it."""
        return self.type != NO_ACTION

    def digest(self, bank: str) -> bytes:
        """The digest in `bank` (`sha256`). Raises `MalformedEvidence` if the log has no such bank."""
        for name, digest in self.digests:
            if name == bank:
                return digest
        raise MalformedEvidence(f"the event log has no {bank} digests")


@dataclass(frozen=True, slots=True)
class SpecId:
    """The header, TCG_EfiSpecIdEvent, but for its table of hashes."""

    platform_class: int
    errata: int
    vendor_info: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """A parsed log: its banks in the order of the header, and its events in theirs."""

    style: Style
    spec: SpecId
    algorithms: tuple[str, ...]
    events: tuple[Event, ...]


def parse_log(data: bytes, style: Style) -> Log:
    """Read a whole log. Raises `MalformedEvidence`."""
    if not data:
        raise MalformedEvidence("there is no event log")
    if len(data) > MAX_LOG_BYTES:
        raise MalformedEvidence(f"an event log of {len(data)} bytes exceeds the limit of {MAX_LOG_BYTES}")
    reader = Reader(data)
    spec, table = _header(reader, style)
    events: list[Event] = []
    while not reader.done and not (style is Style.CCEL and reader.only_fill_left()):
        if len(events) == MAX_EVENTS:
            raise MalformedEvidence(f"an event log of more than {MAX_EVENTS} events")
        events.append(_event(reader, style, table, len(events)))
    return Log(style, spec, tuple(table.values()), tuple(events))


def _header(reader: Reader, style: Style) -> tuple[SpecId, dict[int, str]]:
    """The first event, which has the old form, and the hashes it announces: number -> name."""
    index, kind, digest = reader.integer(4), reader.integer(4), reader.take(LEGACY_DIGEST_BYTES)
    body = Reader(reader.sized("the header of the event log"))
    if kind != NO_ACTION or any(digest) or index > (1 if style is Style.CCEL else 0):
        raise MalformedEvidence("the event log does not begin with its Spec ID event")
    if body.take(len(SPEC_ID)) != SPEC_ID:
        raise MalformedEvidence("the event log is not of the crypto-agile form (Spec ID Event03)")
    platform_class = body.integer(4)
    minor, major, errata, uintn = (body.integer(1) for _ in range(4))
    if (minor, major) != (0, 2) or uintn != UINTN_64:
        raise MalformedEvidence(f"an event log of version {major}.{minor} with integers of kind {uintn}")
    count = body.integer(4)
    if not 1 <= count <= MAX_ALGORITHMS:
        raise MalformedEvidence(f"an event log of {count} hashes")
    table: dict[int, str] = {}
    for _ in range(count):
        algorithm, size = body.integer(2), body.integer(2)
        name = ALGORITHMS.get(algorithm)
        if name is None or DIGEST_BYTES[name] != size or algorithm in table:
            raise MalformedEvidence(f"the event log announces hash {algorithm:#06x} of {size} bytes")
        table[algorithm] = name
    vendor_info = body.take(body.integer(1))
    body.end("the header of the event log")
    return SpecId(platform_class, errata, vendor_info), table


def _event(reader: Reader, style: Style, table: dict[int, str], number: int) -> Event:
    index, kind, count = reader.integer(4), reader.integer(4), reader.integer(4)
    if index > (LAST_PCR if style is Style.TPM else LAST_MR):
        raise MalformedEvidence(f"event {number} is of register {index}, which does not exist")
    if count != len(table):
        raise MalformedEvidence(f"event {number} has {count} digests where the header announces {len(table)}")
    digests: dict[str, bytes] = {}
    for _ in range(count):
        name = table.get(reader.integer(2))
        if name is None or name in digests:
            raise MalformedEvidence(f"the digests of event {number} are not those that the header announces")
        digests[name] = reader.take(DIGEST_BYTES[name])
    data = reader.sized(f"event {number}")
    if kind == NO_ACTION and any(any(digest) for digest in digests.values()):
        raise MalformedEvidence(f"event {number} is EV_NO_ACTION and has a digest")
    if kind != NO_ACTION and style is Style.CCEL and index == 0:
        raise MalformedEvidence(f"event {number} extends MRTD, which is fixed at launch")
    return Event(number, index, kind, tuple(digests.items()), data)


class Reader:
    """Bytes from front to back; never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def done(self) -> bool:
        return self.position == len(self._data)

    def take(self, length: int) -> bytes:
        """The next `length` bytes. Raises `MalformedEvidence`."""
        end = self.position + length
        if end > len(self._data):
            raise MalformedEvidence(f"the event log ends early, {end - len(self._data)} bytes before a field does")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def integer(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def sized(self, what: str) -> bytes:
        """A part preceded by its size in 4 bytes."""
        size = self.integer(4)
        if size > MAX_EVENT_BYTES:
            raise MalformedEvidence(f"{what} of {size} bytes exceeds the limit of {MAX_EVENT_BYTES}")
        return self.take(size)

    def only_fill_left(self) -> bool:
        """Whether the rest is one of the two bytes with which an area is filled, all the way."""
        first = self._data[self.position : self.position + 1]
        rest = len(self._data) - self.position
        start = self._data[self.position : self.position + FILL_PROBE_BYTES]
        if first not in {b"\x00", b"\xff"} or start.strip(first):
            return False  # seen at once, so that a log of many events does not cost its length for each
        return self._data.count(first, self.position) == rest

    def rest(self) -> bytes:
        return self.take(len(self._data) - self.position)

    def end(self, what: str) -> None:
        """Raises `MalformedEvidence` if anything is left."""
        if not self.done:
            raise MalformedEvidence(f"{len(self._data) - self.position} bytes follow the end of {what}")
