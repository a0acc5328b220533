"""The certificate table that a host hands to its guest beside a report.

Knows: entries of 24 bytes (GUID, offset, length; integers little-endian) up to one of zeros, then the certificates, each
in DER or PEM as hosts write them (Guest-Hypervisor Communication Block Standardization, publication 56421). Does not
know: whether any certificate holds (`verify`). The host writes the table, so nothing in it is trusted for being there.
Entries of other GUIDs are skipped; two of one kind, an entry that reaches outside or into the entries, and a
certificate that does not parse are refused.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import AmdCollateral

MAX_TABLE_BYTES = 64 * 1024
MAX_ENTRIES = 32
ENTRY_BYTES = 24
GUID_BYTES = 16

VCEK_ENTRY = "63da758d-e664-4564-adc5-f4b93be8accd"
VLEK_ENTRY = "a8074bc2-a25a-483e-aae6-39c045a0b8a1"
ASK_ENTRY = "4ab7b379-bbac-4fe4-a02f-05aef327c782"
ARK_ENTRY = "c0b406a4-a803-4952-9743-3fb6014cd0ae"
KNOWN = (VCEK_ENTRY, VLEK_ENTRY, ASK_ENTRY, ARK_ENTRY)
"""ASVK has no entry of its own: it stands where the ASK stands."""


@dataclass(frozen=True, slots=True)
class Table:
    """The certificates that a host offered, None where it offered none."""

    vcek: certificates.Certificate | None
    vlek: certificates.Certificate | None
    ask: certificates.Certificate | None
    ark: certificates.Certificate | None

    def collateral(self, *, vlek: bool) -> AmdCollateral | None:
        """The collateral for a report that the VLEK (or the VCEK) signed, without a CRL; None if a part is missing."""
        leaf = self.vlek if vlek else self.vcek
        if leaf is None or self.ask is None or self.ark is None:
            return None
        chain = self.ask.public_bytes(Encoding.PEM) + self.ark.public_bytes(Encoding.PEM)
        return AmdCollateral(leaf.public_bytes(Encoding.DER), chain.decode("ascii"), b"")


def parse_table(data: bytes) -> Table:
    """Read a certificate table; an empty one offers nothing. Raises `MalformedEvidence`."""
    if len(data) > MAX_TABLE_BYTES:
        raise MalformedEvidence(f"a certificate table of {len(data)} bytes exceeds the limit of {MAX_TABLE_BYTES}")
    found: dict[str, certificates.Certificate] = {}
    for name, offset, length in _entries(data):
        if name not in KNOWN:
            continue
        if name in found:
            raise MalformedEvidence("the certificate table has two certificates of one kind")
        found[name] = _certificate(data[offset : offset + length])
    return Table(*(found.get(name) for name in KNOWN))


def _entries(data: bytes) -> list[tuple[str, int, int]]:
    """The entries before the one of zeros: GUID, offset, length; each inside the table and behind all entries."""
    entries: list[tuple[str, int, int]] = []
    position = 0
    while position < len(data):
        entry = data[position : position + ENTRY_BYTES]
        position += ENTRY_BYTES
        if len(entry) < ENTRY_BYTES or len(entries) == MAX_ENTRIES:
            raise MalformedEvidence("the certificate table does not end, or has too many entries")
        if not any(entry):
            break
        name = str(uuid.UUID(bytes=entry[:GUID_BYTES]))
        offset, length = int.from_bytes(entry[16:20], "little"), int.from_bytes(entry[20:24], "little")
        entries.append((name, offset, length))
    else:
        if entries:
            raise MalformedEvidence("the certificate table does not end")
    if any(offset < position or offset + length > len(data) for _, offset, length in entries):
        raise MalformedEvidence("an entry of the certificate table reaches outside of it")
    return entries


def _certificate(content: bytes) -> certificates.Certificate:
    if not content.startswith(b"-----BEGIN"):
        return x509.load_certificate(content)
    (found,) = x509.load_chain(content.replace(b"\r\n", b"\n"), limit=1)
    return found
