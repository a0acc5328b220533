"""The bytes of an AWS Nitro Enclaves attestation document (AWS "attestation_process.md", sections 2.2 and 3.2.2).

Knows: COSE_Sign1, tagged or not, around a CBOR map; the exact fields and their sizes; three wrappers in which documents
are handed on. Does not know: whether any of it is true (`verify`). Refused, with `MalformedEvidence`: any field that
AWS does not list, a size outside its rule, an unprotected header (AWS leaves it empty, and nobody signs it), anything
after the end. The payload may leave lengths open, because AWS's own encoder does. A null in one of the three optional
fields means that it is absent, as real documents write it. Not covered: NitroTPM documents, whose registers have
another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.crypto import cbor, cose
from strongroom.errors import MalformedEvidence

MAX_PAYLOAD_BYTES = 16 * 1024
MAX_DOCUMENT_BYTES = MAX_PAYLOAD_BYTES + 1024
MAX_WRAPPED_BYTES = 32 * 1024
DIGEST = "SHA384"
PCR_BYTES = {32, 48, 64}
PCRS = range(32)
CERTIFICATE_BYTES = range(1, 1025)
PUBLIC_KEY_BYTES = range(1, 1025)
USER_BYTES = range(513)
"""`user_data` and `nonce`: section 3.2.2.2."""
MAX_BUNDLE = 8
MAX_NAME = 256
TIMESTAMPS = range(1, 1 << 53)

BARE = (b"\x84\x44\xa1\x01", b"\xd2\x84\x44\xa1\x01")
"""An array of four with a protected header that names its algorithm, without and with its tag."""
ANSWER = b"\xa1\x6bAttestation"
DSTACK = b"\x00\x02"
"""Version 0 of dstack's attestations, and its number for a Nitro document."""
DSTACK_REPORT_DATA_BYTES = 64
MAX_DSTACK_EVENTS = 64


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document; the names are AWS's. `timestamp` is in milliseconds since 1970; `cabundle` begins at the root.

    `public_key`, `user_data` and `nonce` are None where the enclave gave none. `message` is what was signed.
    """

    message: cose.Sign1
    module_id: str
    digest: str
    timestamp: int
    pcrs: Mapping[int, bytes]
    certificate: bytes
    cabundle: tuple[bytes, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None


def parse_document(data: bytes) -> Document:
    """Read one document, nothing after it. Raises `MalformedEvidence`."""
    message = cose.parse(data, limit=MAX_DOCUMENT_BYTES)
    if message.unprotected:
        raise MalformedEvidence("a Nitro document with an unprotected header")
    if not message.payload:
        raise MalformedEvidence("a Nitro document that is empty")
    payload = cbor.decode(message.payload, limit=MAX_PAYLOAD_BYTES, depth=4, open_lengths=True)
    fields = cbor.Fields(payload, "a Nitro document")
    digest = fields.text("digest", MAX_NAME)
    if digest != DIGEST:
        raise MalformedEvidence(f"a Nitro document whose registers are not {DIGEST}")
    document = Document(
        message=message,
        module_id=fields.text("module_id", MAX_NAME),
        digest=digest,
        timestamp=fields.integer("timestamp", TIMESTAMPS),
        pcrs=_pcrs(fields.mapping("pcrs", range(1, len(PCRS) + 1))),
        certificate=fields.octets("certificate", CERTIFICATE_BYTES),
        cabundle=_bundle(fields.items("cabundle", range(1, MAX_BUNDLE + 1))),
        public_key=_optional(fields, "public_key", PUBLIC_KEY_BYTES),
        user_data=_optional(fields, "user_data", USER_BYTES),
        nonce=_optional(fields, "nonce", USER_BYTES),
    )
    fields.end()
    return document


def unwrap(data: bytes) -> bytes | None:
    """The bare document in what others hand on, `data` itself where it is bare, None where it is neither.

    Wrappers: the Nitro Security Module's answer, a CBOR map {"Attestation": {"document": bytes}}; and dstack's
    attestation of version 0 in SCALE encoding. What a wrapper says besides is read and thrown away: nobody signed it.
    They are told apart by their first bytes; one that goes on otherwise raises `MalformedEvidence`.
    """
    if data.startswith(BARE):
        return data
    if len(data) > MAX_WRAPPED_BYTES:
        return None
    if data.startswith(DSTACK):
        return _dstack(data)
    return read_answer(data) if data.startswith(ANSWER) else None


def read_answer(data: bytes) -> bytes:
    """The document in an answer of the Nitro Security Module. Raises `MalformedEvidence`, also for its errors."""
    answer = cbor.Fields(cbor.decode(data, limit=MAX_WRAPPED_BYTES, depth=3, open_lengths=True), "the NSM's answer")
    if answer.has("Error"):
        raise MalformedEvidence(f"the Nitro Security Module answered {answer.text('Error', MAX_NAME)}")
    inner = cbor.Fields(answer.mapping("Attestation", range(1, 2)), "the NSM's attestation")
    answer.end()
    document = inner.octets("document", range(1, MAX_DOCUMENT_BYTES + 1))
    inner.end()
    return document


def _pcrs(found: Mapping[Any, Any]) -> dict[int, bytes]:
    for index, value in found.items():
        if type(index) is not int or index not in PCRS:
            raise MalformedEvidence("a Nitro document with a register that does not exist")
        if not isinstance(value, bytes) or len(value) not in PCR_BYTES:
            raise MalformedEvidence(f"register {index} of a Nitro document has the wrong size")
    return {index: found[index] for index in sorted(found)}


def _bundle(found: tuple[Any, ...]) -> tuple[bytes, ...]:
    if not all(isinstance(der, bytes) and len(der) in CERTIFICATE_BYTES for der in found):
        raise MalformedEvidence("a Nitro document with an issuer's certificate of the wrong size")
    return found


def _optional(fields: cbor.Fields, name: str, sizes: range) -> bytes | None:
    return fields.octets(name, sizes) if fields.has(name, null=True) else None


def _dstack(data: bytes) -> bytes:
    """SCALE: version, kind of quote, the document, events (name, payload), 64 bytes of report data, configuration."""
    reader = _Scale(data)
    reader.take(len(DSTACK))
    document = reader.vector()
    events = reader.compact()
    if events > MAX_DSTACK_EVENTS:
        raise MalformedEvidence(f"a wrapped Nitro document with {events} events")
    for _ in range(events):
        reader.vector()
        reader.vector()
    reader.take(DSTACK_REPORT_DATA_BYTES)
    reader.vector()
    reader.end()
    return document


class _Scale:
    """The little of SCALE (Parity, "Simple Concatenated Aggregate Little-Endian") that is needed here."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, length: int) -> bytes:
        end = self._position + length
        if end > len(self._data):
            raise MalformedEvidence("a wrapped Nitro document that ends early")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def compact(self) -> int:
        """A compact integer of one, two or four bytes, in its shortest form."""
        first = self._data[self._position] if self._position < len(self._data) else 0
        width = (1, 2, 4, 0)[first & 3]
        if not width:
            raise MalformedEvidence("a wrapped Nitro document with a length that is too large")
        value = int.from_bytes(self.take(width), "little") >> 2
        if width > 1 and value < 1 << (4 * width - 2):
            raise MalformedEvidence("a wrapped Nitro document with a length that is not in its shortest form")
        return value

    def vector(self) -> bytes:
        return self.take(self.compact())

    def end(self) -> None:
        if self._position != len(self._data):
            raise MalformedEvidence("something follows the end of a wrapped Nitro document")
