"""TPM quotes as other tools write them, turned into our record: nothing is judged here.

Knows: the attestation message of go-tpm-tools (Protocol Buffers, attest.proto and tpm.proto), the JSON of Confidential
Containers, the files of tpm2-tools, the raw signatures of Azure's JSON. Does not know: whether any of it is true (`verify`).
Raises `MalformedEvidence`. Not covered: the further members of go-tpm-tools' message (reports of TEEs beneath), which
are skipped; Protocol Buffers' groups.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.errors import MalformedEvidence
from strongroom.records.tpm import TpmQuote
from strongroom.tee.tpm.credential import sized
from strongroom.tee.tpm.parse import HASHES, MAX_STRUCTURE_BYTES, PCR_COUNT

MAX_ATTESTATION_BYTES = 1024 * 1024
AK_MEMBER = b"\x0a"
"""The first byte of an attestation: member 1, the AK, in bytes."""
RSASSA_SHA256 = bytes.fromhex("0014000b")
MAX_VARINT_BYTES = 10
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_QUOTES = 8
C_SELECTION_BYTES, C_DIGESTS_BYTES = 132, 532
"""sizeof TPML_PCR_SELECTION and TPML_DIGEST of tpm2-tss on a little-endian machine, as tpm2-tools writes them to files."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """An attestation of go-tpm-tools: quotes by the bank they are about, the event log, certificates (DER), the AK's first."""

    quotes: Mapping[str, TpmQuote]
    log: bytes
    certificates: tuple[bytes, ...]

    @property
    def quote(self) -> TpmQuote:
        """The quote to judge: of SHA-256, else of a longer hash, else of what there is, which will be refused."""
        return next(self.quotes[bank] for bank in ("sha256", "sha384", "sha512", "sha1") if bank in self.quotes)


def read_attestation(data: bytes) -> Attestation | None:
    """Read an attestation message of go-tpm-tools; None for bytes that do not begin as one. Raises `MalformedEvidence`."""
    if data[:1] != AK_MEMBER:
        return None
    if len(data) > MAX_ATTESTATION_BYTES:
        raise MalformedEvidence(f"an attestation of {len(data)} bytes exceeds the limit of {MAX_ATTESTATION_BYTES}")
    members = _by_number(data)
    ak, bodies = _single(members, 1), _texts(members, 2)
    if not 1 <= len(bodies) <= MAX_QUOTES:
        raise MalformedEvidence(f"an attestation with {len(bodies)} quotes")
    quotes = dict(_go_quote(body, ak) for body in bodies)
    if len(quotes) != len(bodies):
        raise MalformedEvidence("an attestation with two quotes of one bank")
    certificates = (_single(members, 6), *_texts(members, 7))
    return Attestation(quotes, _single(members, 3), tuple(found for found in certificates if found))


def read_coco(document: Mapping[str, Any]) -> TpmQuote:
    """Read TPM evidence of Confidential Containers: JSON of `ak_public` and `tpm_quote`. Raises `MalformedEvidence`.

    The key comes bare, without its attributes.
    """
    quote = document.get("tpm_quote")
    if not isinstance(quote, Mapping):
        raise MalformedEvidence("this is no TPM evidence of Confidential Containers")
    return TpmQuote(
        attest=_base64(quote.get("message")),
        signature=_base64(quote.get("signature")),
        ak=_base64(document.get("ak_public")),
        pcrs=_whole_bank(quote.get("pcrs")),
    )


def read_raw_quote(document: object, *, public: bytes) -> TpmQuote:
    """Read a quote as evidence of Azure has it: hexadecimal, and the signature bare (RSASSA, SHA-256).

    `public` is its key, which such evidence keeps elsewhere; empty while nobody knows it. Raises `MalformedEvidence`.
    """
    if not isinstance(document, Mapping):
        raise MalformedEvidence("this is no quote in JSON")
    signature = RSASSA_SHA256 + sized(_hexadecimal(document.get("signature")))
    return TpmQuote(_hexadecimal(document.get("message")), signature, public, _whole_bank(document.get("pcrs")))


def read_tpm2_tools(attest: bytes, signature: bytes, registers: bytes, ak: bytes) -> TpmQuote:
    """The files that `tpm2_quote` writes for -m, -s and -o, and the key's public part. Raises `MalformedEvidence`.

    The file of registers holds the C structures of the machine that wrote it, little-endian: a selection, the number of
    lists of digests, and so many lists of up to eight.
    """
    reader = _Little(registers)
    selection = _Little(reader.take(C_SELECTION_BYTES))
    banks: list[tuple[str, int]] = []
    for _ in range(selection.integer(4)):
        number, size, bits = selection.integer(2), selection.integer(1), selection.take(4)
        selection.take(1)  # padding
        if number not in HASHES or size > len(bits):
            raise MalformedEvidence("a file of registers with an unknown bank")
        banks.append((HASHES[number], int.from_bytes(bits[:size], "little")))
    values: list[bytes] = []
    for _ in range(reader.integer(4)):
        digests = _Little(reader.take(C_DIGESTS_BYTES))
        for _ in range(digests.integer(4)):
            size, buffer = digests.integer(2), digests.take(64)
            values.append(buffer[:size])
    reader.end()
    pcrs: dict[str, dict[str, str]] = {}
    for bank, chosen in banks:
        indices = [index for index in range(32) if chosen >> index & 1]
        taken, values = values[: len(indices)], values[len(indices) :]
        if len(taken) != len(indices) or bank in pcrs:
            raise MalformedEvidence("a file of registers with another number of values than it names")
        pcrs[bank] = {str(index): value.hex() for index, value in zip(indices, taken, strict=True)}
    if values:
        raise MalformedEvidence("a file of registers with more values than it names")
    return TpmQuote(attest, signature, ak, pcrs)


def _go_quote(body: bytes, ak: bytes) -> tuple[str, TpmQuote]:
    members = _by_number(body)
    registers = _by_number(_single(members, 3))
    number = registers.get(1, [0])[-1]
    if not isinstance(number, int) or number not in HASHES:
        raise MalformedEvidence("a quote of registers of an unknown bank")
    values: dict[str, str] = {}
    for entry in _texts(registers, 2):
        pair = _by_number(entry)
        index, value = pair.get(1, [0])[-1], _single(pair, 2)
        if not isinstance(index, int) or str(index) in values:
            raise MalformedEvidence("a quote that shows a register twice")
        values[str(index)] = value.hex()
    return HASHES[number], TpmQuote(_single(members, 1), _single(members, 2), ak, {HASHES[number]: values})


def _by_number(data: bytes) -> dict[int, list[int | bytes]]:
    found: dict[int, list[int | bytes]] = {}
    for number, value in _wire(data):
        found.setdefault(number, []).append(value)
    return found


def _single(members: Mapping[int, list[int | bytes]], number: int) -> bytes:
    """The one value of a member, empty where it is absent; one that comes twice would be read otherwise elsewhere."""
    values = _texts(members, number)
    if len(values) > 1:
        raise MalformedEvidence(f"member {number} occurs twice")
    return values[0] if values else b""


def _texts(members: Mapping[int, list[int | bytes]], number: int) -> list[bytes]:
    values = members.get(number, [])
    if not all(isinstance(value, bytes) for value in values):
        raise MalformedEvidence(f"member {number} is of another type")
    return [value for value in values if isinstance(value, bytes)]


def _wire(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The members of a message in the wire format of Protocol Buffers: (number, value)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind, -1)
        if size < 0 or at + size > len(data) or not number:
            raise MalformedEvidence("a message that is not in the wire format of Protocol Buffers")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for position in range(MAX_VARINT_BYTES):
        if at + position >= len(data):
            break
        byte = data[at + position]
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:  # noqa: PLR2004 (the last byte of a varint)
            return value, at + position + 1
    raise MalformedEvidence("a number that does not end in the wire format of Protocol Buffers")


def _whole_bank(values: object) -> dict[str, dict[str, str]]:
    """All SHA-256 registers, given as a list from 0 on in hexadecimal."""
    if not isinstance(values, list) or not 1 <= len(values) <= PCR_COUNT:
        raise MalformedEvidence("this is no list of registers")
    return {"sha256": {str(index): _hexadecimal(value).hex() for index, value in enumerate(values)}}


def _hexadecimal(text: object) -> bytes:
    if not isinstance(text, str) or len(text) % 2 or not set(text) <= _DIGITS or len(text) > 2 * MAX_STRUCTURE_BYTES:
        raise MalformedEvidence("a member that is not hexadecimal")
    return bytes.fromhex(text)


def _base64(text: object) -> bytes:
    """Base64 with the standard alphabet, padded or not, as that JSON has both."""
    if not isinstance(text, str):
        raise MalformedEvidence("a member that is not base64")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise MalformedEvidence("a member that is not base64") from None


class _Little:
    """Bytes of a C structure from front to back, little-endian; never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise MalformedEvidence("a file of registers that ends early")
        taken, self._at = self._data[self._at : end], end
        return taken

    def integer(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def end(self) -> None:
        if self._at != len(self._data):
            raise MalformedEvidence("a file of registers with something behind its end")


_DIGITS = frozenset("0123456789abcdefABCDEF")
