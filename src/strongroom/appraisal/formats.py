"""Evidence in the forms in which people have it: our own records, vendors' structures, other tools' containers.

Knows: how each is recognised (by its first bytes or its members, never by a file's name) and taken apart. Does not know:
whether any of it is true. What a container brings besides evidence (certificates, logs) is kept as pieces of collateral
for the verifier to judge. Zeros that devices leave behind a TDX or SGX quote are cut; anything else is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from strongroom.appraisal.kinds import kind_of
from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence, MalformedRecord, Unreadable
from strongroom.records import codec
from strongroom.records.azure import AzureEvidence
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.google import GoogleEvidence
from strongroom.records.tpm import TpmQuote
from strongroom.tee import cca, nitro, sgx, snp, tdx, tpm
from strongroom.tee.azure import parse_report

MAX_BYTES = 4 * 1024 * 1024
SNP_BYTES = 1184
DSTACK_SNP = bytes.fromhex("00038112")
"""dstack's versioned attestation: version, kind SEV-SNP, and the length of a report as a SCALE compact number."""
CCA_TAGS = (bytes.fromhex("d9018f"), bytes.fromhex("d9038b"))
"""Tag 399 (CCA token) and tag 907 (the same as a CMW collection)."""
TEE_SGX, TEE_TDX = 0, 0x81


@dataclass(frozen=True, slots=True)
class Presented:
    """One piece of evidence: `kind`, `quote` and `log` as `Evidence` has them, and what else the file brought along."""

    kind: str
    quote: bytes
    log: bytes = b""
    pieces: Pile = field(default_factory=Pile)
    bundle: EvidenceBundle | None = None


def read(data: bytes) -> Presented:
    """The evidence in `data`. Raises `Unreadable` (`MalformedEvidence`, `MalformedRecord`) for anything else."""
    if len(data) > MAX_BYTES:
        raise MalformedEvidence(f"a file of {len(data)} bytes exceeds the limit of {MAX_BYTES}")
    if data.lstrip()[:1] == b"{":
        return _document(codec.parse_json(data))
    found = _binary(data)
    if found is None:
        found = _binary(_decoded(data))
    if found is None:
        raise MalformedEvidence("this is no evidence of a known kind")
    return found


def of_bundle(bundle: EvidenceBundle) -> Presented:
    """Evidence that comes in a record of ours."""
    evidence = bundle.evidence
    return Presented(evidence.kind, evidence.quote, evidence.log, Pile(bundles=[bundle.collateral]), bundle)


def _binary(data: bytes) -> Presented | None:
    """Vendors' structures by their first bytes."""
    return next((found for take in (_dcap, _snp, _cca, _nitro, _go_tpm_tools) if (found := take(data))), None)


def _dcap(data: bytes) -> Presented | None:
    version, key_type = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
    tee = int.from_bytes(data[4:8], "little")
    if version in {4, 5} and key_type == 2 and tee == TEE_TDX:  # noqa: PLR2004 (ECDSA P-256)
        return Presented("tdx", _parsed(tdx.trim(data), tdx.parse_quote))
    if version == 3 and key_type in {2, 3}:  # noqa: PLR2004 (an SGX quote; its parser knows which keys there are)
        return Presented("sgx", _parsed(sgx.trim(data), sgx.parse_quote))
    return None


def _snp(data: bytes) -> Presented | None:
    if data.startswith(DSTACK_SNP) and len(data) > len(DSTACK_SNP) + SNP_BYTES:
        data = data[len(DSTACK_SNP) :][:SNP_BYTES]
    if len(data) != SNP_BYTES or data[1:4] != bytes(3):
        return None
    return Presented("snp", _parsed(data, snp.parse_report))


def _cca(data: bytes) -> Presented | None:
    return Presented("cca", _parsed(data, cca.parse_token)) if data.startswith(CCA_TAGS) else None


def _nitro(data: bytes) -> Presented | None:
    document = nitro.unwrap(data)
    return Presented("nitro", document) if document is not None else None


def _go_tpm_tools(data: bytes) -> Presented | None:
    found = tpm.read_attestation(data)
    if found is None:
        return None
    pieces = Pile()
    for certificate in found.certificates:
        pieces.add(certificate)
    return Presented("tpm", codec.encode(found.quote), found.log, pieces)


def _parsed(data: bytes, parse: Callable[[bytes], Any]) -> bytes:
    parse(data)
    return data


def _document(value: Any) -> Presented:
    """Our own records, and other tools' JSON."""
    if not isinstance(value, dict):
        raise MalformedRecord("this is no evidence of a known kind")
    own = value.get("type")
    if isinstance(own, str) and own in _RECORDS:
        return _RECORDS[own](value)
    if "hcl_report" in value and "tpm_quote" in value:
        return _azure(value)
    if "ak_public" in value and "tpm_quote" in value:
        return Presented("tpm", codec.encode(tpm.read_coco(value)))
    for name in ("quote", "attestation"):
        if isinstance(value.get(name), str):
            found = _binary(_decoded(value[name].encode("utf-8", "replace")))
            if found is not None:
                return found
    raise MalformedRecord("this is no evidence of a known kind")


def _two_parts(cloud: str, evidence: AzureEvidence | GoogleEvidence) -> Presented:
    """Our record of hardware and a vTPM; the hardware's bytes say which kind it is."""
    beneath = _binary(evidence.hardware)
    if beneath is None or beneath.kind not in {"snp", "tdx"} or beneath.quote != evidence.hardware:
        raise MalformedEvidence("the hardware's part of this evidence is neither a SEV-SNP report nor a TD quote")
    return Presented(f"{cloud}-{beneath.kind}", codec.encode(evidence))


def _azure(value: dict[str, Any]) -> Presented:
    """Confidential Containers' evidence of an Azure confidential VM."""
    report = parse_report(_decoded(_text(value["hcl_report"])))
    hardware = report.hardware
    if report.kind == "tdx":
        hardware = tdx.trim(_decoded(_text(value.get("td_quote"))))
    quote = tpm.read_raw_quote(value["tpm_quote"], public=b"")
    pieces = Pile()
    if "vcek" in value:
        pieces.add(_decoded(_text(value["vcek"])))
    return Presented(f"az-{report.kind}", codec.encode(AzureEvidence(hardware, report.runtime, quote)), b"", pieces)


_RECORDS: Mapping[str, Callable[[dict[str, Any]], Presented]] = {
    EvidenceBundle.TYPE: lambda value: of_bundle(codec.from_json(EvidenceBundle, value)),
    TpmQuote.TYPE: lambda value: Presented("tpm", codec.encode(codec.from_json(TpmQuote, value))),
    AzureEvidence.TYPE: lambda value: _two_parts("az", codec.from_json(AzureEvidence, value)),
    GoogleEvidence.TYPE: lambda value: _two_parts("gce", codec.from_json(GoogleEvidence, value)),
}
"""Our own records that are evidence, by their type."""


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise MalformedRecord("a member of this evidence is not text")
    return value.encode("utf-8", "replace")


def _decoded(data: bytes) -> bytes:
    """Text as hexadecimal, base64 or base64url."""
    text = b"".join(data.split())
    try:
        return bytes.fromhex(text.decode("ascii").removeprefix("0x"))
    except ValueError:
        pass
    try:
        padded = text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4)
        return base64.b64decode(padded.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except (ValueError, binascii.Error):
        raise Unreadable("this is no evidence in binary, hexadecimal, base64 or JSON") from None


def collateral_of(presented: Presented, pile: Pile) -> Collateral:
    """What belongs to this evidence, out of the file it came in and out of `pile`."""
    return kind_of(presented.kind).gather(presented.quote, pile.over(presented.pieces))
