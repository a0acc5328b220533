"""Files that hold evidence or collateral, in the forms in which people have them.

Knows: our own records, and bare TDX quotes as binary, hexadecimal or base64. Does not know: whether any of it is true.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from strongroom.cli import output
from strongroom.errors import MalformedRecord, Unreadable
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records import codec
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.session import WorkerProof
from strongroom.tee.tdx import parse_quote
from strongroom.tee.tdx.parse import trim

PCS_MEMBERS = {
    "tcb_info": "tcb_info",
    "tcb_info_issuer_chain": "tcb_info_chain",
    "tcb_info_signature": "tcb_info_signature",
    "qe_identity": "qe_identity",
    "qe_identity_issuer_chain": "qe_identity_chain",
    "qe_identity_signature": "qe_identity_signature",
    "root_ca_crl": "root_ca_crl",
    "pck_crl": "pck_crl",
    "pck_crl_issuer_chain": "pck_crl_chain",
}
"""The members of a QuoteCollateralV3 document, as tools around Intel's PCS write it, and ours."""


@dataclass(frozen=True, slots=True)
class Found:
    """A quote, and the bundle it came in if it came in one of ours."""

    quote: bytes
    bundle: EvidenceBundle | None


def read_evidence(path: str) -> Found:
    """The evidence in a file, parsed but not judged. Raises `Unreadable` errors.

    Devices give quotes in buffers of fixed size: zeros behind a bare quote are cut, anything else behind it is refused.
    """
    data = output.read_file(path)
    if data.lstrip()[:1] == b"{":
        bundle = _bundle(data)
        return Found(bundle.evidence.quote, bundle)
    quote = trim(_plain(data))
    parse_quote(quote)
    return Found(quote, None)


def read_collateral(path: str) -> Collateral:
    """Collateral in our own form, or as QuoteCollateralV3. Raises `MalformedRecord`."""
    data = output.read_file(path)
    value = codec.parse_json(data)
    if not isinstance(value, dict):
        raise MalformedRecord(f"{path} holds no collateral")
    if value.get("type") == Collateral.TYPE:
        return codec.from_json(Collateral, value)
    if not set(PCS_MEMBERS) <= value.keys():
        raise MalformedRecord(f"{path} holds no collateral")
    members = {ours: value[theirs] for theirs, ours in PCS_MEMBERS.items()}
    if not all(isinstance(member, str) for member in members.values()):
        raise MalformedRecord(f"{path} holds no collateral")
    binary = {"tcb_info_signature", "qe_identity_signature", "root_ca_crl", "pck_crl"}
    try:
        return codec.from_json(
            Collateral,
            {"type": Collateral.TYPE}
            | {n: codec.b64encode(bytes.fromhex(m)) if n in binary else m for n, m in members.items()},
        )
    except ValueError:
        raise MalformedRecord(f"{path}: signatures and CRLs are hexadecimal") from None


def _bundle(data: bytes) -> EvidenceBundle:
    value = codec.parse_json(data)
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == WorkerProof.TYPE:
        return codec.from_json(WorkerProof, value).bundle
    if kind == ReceiptDocument.TYPE:
        return codec.from_json(ReceiptDocument, value).bundle
    return codec.from_json(EvidenceBundle, value)


def _plain(data: bytes) -> bytes:
    """A bare quote: binary as it is, else text decoded."""
    if data[:2] in (b"\x04\x00", b"\x05\x00"):
        return data
    text = b"".join(data.split())
    try:
        return bytes.fromhex(text.decode("ascii").removeprefix("0x"))
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Unreadable("this is neither a record nor a quote in binary, hexadecimal or base64") from None
