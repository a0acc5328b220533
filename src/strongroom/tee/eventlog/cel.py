"""The bytes of a Canonical Event Log (TLV encoding), as Container-Optimized OS writes one of what it launches.

Knows: TCG Canonical Event Log 1.0, section 5 (record number, register, digests, content; type in one byte, size in four,
big-endian), the register type 108 that Google's launcher uses for CC registers, its content type 80 and what is nested
there, and that a digest is over the content's whole TLV. Does not know: whether anything was quoted (`check`). Not
covered: NV indices, JSON and CBOR encodings, contents of other writers (refused when the log is interpreted).

Record numbers count from 0 without a gap, so a record that was left out, repeated or moved is seen in the form already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog.codes import ALGORITHMS, DIGEST_BYTES, hashed
from strongroom.tee.eventlog.replay import fold, register_name, register_of, reset_value
from strongroom.tee.eventlog.tcg2 import LAST_MR, LAST_PCR, MAX_EVENT_BYTES, MAX_EVENTS, MAX_LOG_BYTES, Style

RECORD_NUMBER, DIGESTS, COS = 0, 3, 80
INDEX_STYLES = {1: Style.TPM, 108: Style.CCEL}
COS_REGISTERS = {Style.TPM: 13, Style.CCEL: 3}
SINGLE = {
    0: "image_reference",
    1: "image_digest",
    2: "restart_policy",
    3: "image_id",
    9: "memory_monitor",
    10: "gpu_cc_mode",
    11: "gpu_attestation",
}
REPEATED = {4: "arguments", 5: "environment", 6: "override_arguments", 7: "override_environment"}
LAUNCH_SEPARATOR = 8
TLV_HEADER_BYTES = 5


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `content` is the whole TLV, over which the digests are."""

    index: int
    digests: tuple[tuple[str, bytes], ...]
    content: bytes

    def digest(self, bank: str) -> bytes:
        """The digest in `bank`. Raises `MalformedEvidence` if the record has none."""
        for name, digest in self.digests:
            if name == bank:
                return digest
        raise MalformedEvidence(f"a record of the canonical event log has no {bank} digest")


@dataclass(frozen=True, slots=True)
class Cel:
    """A parsed canonical event log; its records are numbered as they stand."""

    style: Style
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """What Container-Optimized OS launched. Texts are empty, and lists too, where nothing was measured.

    `environment` entries are `NAME=value`. `memory_monitor` is None where it was not measured; `gpu_attestation` is the
    SHA-256 (hex) of what the launcher measured of its GPUs. `launched` says that the launcher closed the list: what a
    running workload measures afterwards is no longer taken for the launcher's.
    """

    register: str
    image_reference: str
    image_digest: str
    restart_policy: str
    image_id: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    override_arguments: tuple[str, ...]
    override_environment: tuple[str, ...]
    memory_monitor: bool | None
    gpu_cc_mode: str
    gpu_attestation: str
    launched: bool


def parse_cel(data: bytes) -> Cel:
    """Read a whole canonical event log, nothing after it. Raises `MalformedEvidence`."""
    if not data:
        raise MalformedEvidence("there is no canonical event log")
    if len(data) > MAX_LOG_BYTES:
        raise MalformedEvidence(f"a canonical event log of {len(data)} bytes exceeds the limit of {MAX_LOG_BYTES}")
    position = 0
    styles: set[Style] = set()
    records: list[Record] = []
    while position < len(data):
        if len(records) == MAX_EVENTS:
            raise MalformedEvidence(f"a canonical event log of more than {MAX_EVENTS} records")
        number, position = _expect(data, position, {RECORD_NUMBER}, 8)
        if int.from_bytes(number, "big") != len(records):
            raise MalformedEvidence(f"record {len(records)} of the canonical event log bears another number")
        style = INDEX_STYLES.get(data[position]) if position < len(data) else None
        index, position = _expect(data, position, set(INDEX_STYLES), 1)
        digests, position = _expect(data, position, {DIGESTS}, None)
        start = position
        _, _, position = _tlv(data, position)
        if style is None or not _exists(style, index[0]):
            raise MalformedEvidence(f"record {len(records)} is of register {index[0]}, which does not exist")
        styles.add(style)
        records.append(Record(index[0], _digests(digests), data[start:position]))
    if len(styles) != 1:
        raise MalformedEvidence("a canonical event log of registers of different kinds")
    return Cel(styles.pop(), tuple(records))


def replay_cel(cel: Cel, bank: str) -> Mapping[int, bytes]:
    """Register number (PCR n, RTMR n) -> what it holds after the records, from its reset value. Raises `MalformedEvidence`."""
    extends = [(register_of(cel.style, record.index), record.digest(bank)) for record in cel.records]
    return fold(extends, {register: reset_value(cel.style, register, bank) for register, _ in extends}, bank)


def check_digests(cel: Cel, bank: str) -> int:
    """How many digests were computed again in `bank`: all of them. Raises `MalformedEvidence` for one that differs."""
    for number, record in enumerate(cel.records):
        if record.content[0] != COS:
            raise MalformedEvidence(
                f"record {number} has content of type {record.content[0]}, which nothing here reads"
            )
        if hashed(bank, record.content) != record.digest(bank):
            raise MalformedEvidence(f"record {number} was not measured as it is logged")
    return len(cel.records)


def interpret_cel(cel: Cel, bank: str) -> Container:
    """What was launched. Raises `MalformedEvidence` if a digest is wrong or a record is not as it must be."""
    check_digests(cel, bank)
    single: dict[str, bytes] = {}
    repeated: dict[str, list[str]] = {name: [] for name in REPEATED.values()}
    launched = False
    register = COS_REGISTERS[cel.style]
    for number, record in enumerate(cel.records):
        kind, value, end = _tlv(record.content, TLV_HEADER_BYTES)
        where = f"record {number} of the canonical event log"
        if end != len(record.content) or register_of(cel.style, record.index) != register or launched:
            raise MalformedEvidence(f"{where} is not one of the launcher's")
        if kind in SINGLE and SINGLE[kind] not in single:
            single[SINGLE[kind]] = value
        elif kind in REPEATED:
            repeated[REPEATED[kind]].append(_text(value))
        elif kind == LAUNCH_SEPARATOR and not value:
            launched = True
        else:
            raise MalformedEvidence(f"{where}, of content type {kind}, is unknown, said twice or an error")
    return _container(register_name(cel.style, register), single, repeated, launched=launched)


def _container(
    register: str, single: Mapping[str, bytes], repeated: Mapping[str, list[str]], *, launched: bool
) -> Container:
    monitor = single.get("memory_monitor")
    if monitor not in {None, b"\0", b"\1"}:
        raise MalformedEvidence("the memory monitor is neither on nor off")
    attestation = single.get("gpu_attestation")
    texts = {
        name: _text(single.get(name, b""))
        for name in SINGLE.values()
        if name not in {"memory_monitor", "gpu_attestation"}
    }
    return Container(
        register=register,
        memory_monitor=None if monitor is None else monitor == b"\1",
        gpu_attestation="" if attestation is None else hashlib.sha256(attestation).hexdigest(),
        launched=launched,
        arguments=tuple(repeated["arguments"]),
        environment=tuple(repeated["environment"]),
        override_arguments=tuple(repeated["override_arguments"]),
        override_environment=tuple(repeated["override_environment"]),
        **texts,
    )


def _exists(style: Style, index: int) -> bool:
    return index <= LAST_PCR if style is Style.TPM else 1 <= index <= LAST_MR


def _digests(data: bytes) -> tuple[tuple[str, bytes], ...]:
    found: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        algorithm, digest, position = _tlv(data, position)
        name = ALGORITHMS.get(algorithm)
        if name is None or name in found or len(digest) != DIGEST_BYTES[name]:
            raise MalformedEvidence(f"a digest of hash {algorithm:#04x} and {len(digest)} bytes")
        found[name] = digest
    if not found:
        raise MalformedEvidence("a record of the canonical event log without a digest")
    return tuple(found.items())


def _expect(data: bytes, position: int, kinds: set[int], size: int | None) -> tuple[bytes, int]:
    """The value of the next TLV, which must be of one of `kinds` and of `size` bytes, and where it ends."""
    kind, value, end = _tlv(data, position)
    if kind not in kinds or size not in {None, len(value)}:
        raise MalformedEvidence(f"a field of type {kind} and {len(value)} bytes in a canonical event log")
    return value, end


def _tlv(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Type and value of the TLV at `position`, and where it ends."""
    start = position + TLV_HEADER_BYTES
    size = int.from_bytes(data[position + 1 : start], "big")
    if start > len(data) or size > MAX_EVENT_BYTES or start + size > len(data):
        raise MalformedEvidence("a canonical event log that ends early")
    return data[position], data[start : start + size], start + size


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedEvidence("text in a canonical event log that is not UTF-8") from None
