"""Does a part hold? Its signature and the path of who signed it, up to a pinned root, and it is what was asked for.

Knows: which role signs which item (Intel SGX PCK Certificate and CRL Profile; AMD 57230; AWS Nitro and TPM CAs by
their place in a path), and until when a part holds. Does not know: where it came from, or what was there before
(`cache`). Not covered: whether a signer was revoked, and the inner content of documents; the verifier of each kind
judges both, with the CRL beside it. AWS's and TPM makers' CAs are known by their path alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.collateral.items import (
    AmdChain,
    AmdCrl,
    AmdLeaf,
    EvaluationNumbers,
    Item,
    Part,
    PckCrl,
    PlacedCrl,
    QeIdentity,
    RootCrl,
    TcbInfo,
)
from strongroom.collateral.needs import AUTHORITIES
from strongroom.crypto import x509
from strongroom.crypto.schemes import Scheme
from strongroom.crypto.x509 import INTEL, Hierarchy
from strongroom.errors import MalformedEvidence, MalformedRecord, SignatureInvalid
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, frame
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.dcap import signatures
from strongroom.tee.dcap.documents import parse_qe_identity, parse_tcb_info
from strongroom.tee.dcap.signed import TCB_SIGNER
from strongroom.tee.snp.endorsement import AMD, ISSUER_PREFIX, VCEK_NAME, VLEK_NAME
from strongroom.tee.snp.leaf import parse_leaf
from strongroom.tee.steps import Doubt

ANY = Hierarchy(frozenset(Scheme), leaf_curve=None, leaf_usage=False)
KINDS = {"intel": frozenset({"tdx", "sgx"}), "amd": frozenset({"snp"})}
MAX_PLACED_CERTIFICATES = 5
MAX_CRL_NUMBER_BITS = 160  # RFC 5280 section 5.2.3: 20 octets
ISSUER_TAG = "strongroom/crl-issuer/v1"
ENCLAVES = {"tdx": "TD_QE", "sgx": "QE"}
_NUMBER = re.compile(r"-1|[0-9]{1,49}")  # -1 for a CRL without a number
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class Floor:
    """How far a vendor has come: the `number` (decimal) of a series, and when it was issued under it (Unix seconds)."""

    series: str
    number: str
    issued: int

    def __post_init__(self) -> None:
        if _NUMBER.fullmatch(self.number) is None:
            raise ValueError("the number of a floor is not decimal")

    @property
    def position(self) -> tuple[int, int]:
        """What never goes back: a greater number is newer whenever it was issued, the same one only if issued later."""
        return int(self.number), self.issued


@dataclass(frozen=True, slots=True)
class Facts:
    """What a check finds: from when until when the part holds (Unix seconds), and its floor where it has one."""

    starts: int
    ends: int
    floor: Floor | None


@dataclass(frozen=True, slots=True)
class EvaluationNumber:
    """One TCB evaluation number: Intel's TCB recovery event that made it, and the date of its TCB (Unix seconds)."""

    number: int
    recovery_event: int
    tcb_date: int


class Checks:
    """Judges parts under `anchors`. Pure: no I/O, no clock."""

    def __init__(self, anchors: Sequence[TrustAnchor]) -> None:
        self._anchors = tuple(anchors)

    def __call__(self, item: Item, part: Part, now: int) -> Facts:
        """What holds of `part` as the answer to `item` at `now`. Raises `SignatureInvalid` or `MalformedEvidence`."""
        match item:
            case TcbInfo() | QeIdentity() | EvaluationNumbers():
                return self._document(item, part, now)
            case PckCrl() | RootCrl():
                return self._intel_crl(item, part, now)
            case AmdChain() | AmdCrl():
                return self._amd_above(item, part, now)
            case AmdLeaf():
                return self._amd_leaf(item, part, now)
            case PlacedCrl():
                return self._placed(item, part, now)

    def _root(self, chain: Sequence[certificates.Certificate], kinds: Collection[str]) -> Digest:
        root = x509.certificate_digest(chain[-1])
        if not any(anchor.kind in kinds and anchor.fingerprint == root for anchor in self._anchors):
            raise SignatureInvalid(f"the root {root} is not among the trust anchors for {' or '.join(sorted(kinds))}")
        return root

    def _authority(
        self, part: Part, kinds: Collection[str], roles: Sequence[x509.Role], now: int, hierarchy: Hierarchy
    ) -> list[certificates.Certificate]:
        """The chain of a part, once it leads from a CA in these roles to a pinned root."""
        chain = x509.load_chain(part.chain)
        x509.check_authority(chain, root=self._root(chain, kinds), roles=roles, now=now, hierarchy=hierarchy)
        return chain

    def _document(self, item: TcbInfo | QeIdentity | EvaluationNumbers, part: Part, now: int) -> Facts:
        chain = x509.load_chain(part.chain)
        root = self._root(chain, KINDS["intel"])
        signer = x509.check_path(chain, root=root, roles=(TCB_SIGNER,), now=now)
        try:
            signatures.check(x509.public_key(signer), part.signature, part.body, item.name)
        except Doubt as doubt:
            raise SignatureInvalid(str(doubt)) from None
        series, number, issued, until = _dated(item, part.body)
        facts = _facts(chain, issued, until, Floor(f"intel/{item.kind}/{series}/{root}", str(number), issued))
        if not facts.starts <= now <= facts.ends:
            raise SignatureInvalid(f"{item.name} holds from {facts.starts} to {facts.ends}, not now")
        return facts

    def _intel_crl(self, item: PckCrl | RootCrl, part: Part, now: int) -> Facts:
        names = (
            AUTHORITIES.keys() if isinstance(item, RootCrl) else {n for n, ca in AUTHORITIES.items() if ca == item.ca}
        )
        chain = self._authority(part, KINDS["intel"], (names,), now, INTEL)
        return _crl(part, chain, chain[-1] if isinstance(item, RootCrl) else chain[0], now, INTEL)

    def _amd_above(self, item: AmdChain | AmdCrl, part: Part, now: int) -> Facts:
        chain = self._authority(part, KINDS["amd"], ({_amd_ca(item.product, item.signer)},), now, AMD)
        return _crl(part, chain, chain[-1], now, AMD) if isinstance(item, AmdCrl) else _facts(chain, 0, None, None)

    def _amd_leaf(self, item: AmdLeaf, part: Part, now: int) -> Facts:
        leaf = x509.load_certificate(part.body)
        chain = [leaf, *x509.load_chain(part.chain)]
        roles = ({VCEK_NAME}, {_amd_ca(item.product, "vcek")})
        x509.check_path(chain, root=self._root(chain, KINDS["amd"]), roles=roles, now=now, hierarchy=AMD)
        said = parse_leaf(leaf)
        if said.hwid != item.hwid:
            raise SignatureInvalid("the VCEK is another chip's")
        if said.tcb(item.product) != item.tcb:
            raise SignatureInvalid("the VCEK is of another TCB")
        return _facts(chain, 0, None, None)

    def _placed(self, item: PlacedCrl, part: Part, now: int) -> Facts:
        crl = x509.load_crl(part.body)
        chain = x509.load_chain(part.chain, limit=MAX_PLACED_CERTIFICATES)
        found = [place for place, certificate in enumerate(chain) if certificate.subject == crl.issuer]
        if not found:
            raise SignatureInvalid("the CRL was issued by nobody in the evidence's chain")
        above = chain[found[0] :]
        roles = [_anybody] * (len(above) - 1)
        root = self._root(above, {item.kind})
        x509.check_authority(above, root=root, roles=roles, now=now, hierarchy=ANY)
        return _crl(part, above, above[0], now, ANY)


def evaluation_numbers(part: Part) -> tuple[EvaluationNumber, ...]:
    """The numbers in a part that `Checks` found to hold, the newest first. Raises `MalformedEvidence`."""
    numbers = [
        EvaluationNumber(
            entry.number("tcbEvaluationDataNumber"), entry.time("tcbRecoveryEventDate"), entry.time("tcbDate")
        )
        for entry in _Document(part.body).objects("tcbEvalNumbers")
    ]
    return tuple(sorted(numbers, key=lambda found: found.number, reverse=True))


def _dated(item: TcbInfo | QeIdentity | EvaluationNumbers, body: bytes) -> tuple[str, int, int, int]:
    """The series of a document, its number in it, and its dates, once it is what was asked for.

    All tracks share one series, so an early number is a floor for them all.
    """
    match item:
        case TcbInfo():
            info = parse_tcb_info(body, item.kind.upper())
            if info.fmspc != item.fmspc:
                raise MalformedEvidence("the TCB info is of another platform family")
            found = (f"tcb/{item.fmspc.hex()}", info.evaluation_number, info.issued, info.next_update)
        case QeIdentity():
            identity = parse_qe_identity(body, ENCLAVES[item.kind])
            found = ("qe", identity.evaluation_number, identity.issued, identity.next_update)
        case EvaluationNumbers():
            document = _Document(body)
            document.expect("id", item.kind.upper())
            document.expect("version", 1)
            part = Part(body, b"", "")
            newest = max((entry.number for entry in evaluation_numbers(part)), default=0)
            return "evaluation-numbers", newest, document.time("issueDate"), document.time("nextUpdate")
    if item.track.isdigit() and found[1] != int(item.track):
        raise MalformedEvidence("the document is of another evaluation number than was asked for")
    return found


def _crl(
    part: Part,
    chain: Sequence[certificates.Certificate],
    issuer: certificates.Certificate,
    now: int,
    hierarchy: Hierarchy,
) -> Facts:
    crl = x509.load_crl(part.body)
    x509.check_crl(crl, issuer=issuer, now=now, hierarchy=hierarchy)
    number = x509.crl_number(crl)
    if number.bit_length() > MAX_CRL_NUMBER_BITS:
        raise MalformedEvidence("a CRL has a number of more than 20 octets")
    key = x509.any_key(issuer).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    who = digest_bytes(frame(ISSUER_TAG, issuer.subject.public_bytes() + key))
    until = crl.next_update_utc
    if until is None:
        raise SignatureInvalid("the CRL does not say until when it holds")
    issued = int(crl.last_update_utc.timestamp())
    return _facts(chain, issued, int(until.timestamp()), Floor(f"crl/{who}", str(number), issued))


def _facts(chain: Sequence[certificates.Certificate], starts: int, ends: int | None, floor: Floor | None) -> Facts:
    """When a part holds: within its own dates and those of all certificates above it."""
    begins = [int(found.not_valid_before_utc.timestamp()) for found in chain]
    stops = [int(found.not_valid_after_utc.timestamp()) for found in chain]
    return Facts(max(starts, *begins), min(stops if ends is None else [ends, *stops]), floor)


def _amd_ca(product: str, signer: str) -> str:
    return ISSUER_PREFIX[VCEK_NAME if signer == "vcek" else VLEK_NAME] + product


def _anybody(_: certificates.Certificate) -> bool:
    return True


class _Document:
    """A signed document that no verifier reads: Intel's list of evaluation numbers."""

    def __init__(self, body: bytes | dict[str, Any]) -> None:
        try:
            value = codec.parse_json(body) if isinstance(body, bytes) else body
        except MalformedRecord:
            value = None
        if not isinstance(value, dict):
            raise MalformedEvidence("a document of Intel's is not a JSON object")
        self._members = value

    def expect(self, name: str, value: str | int) -> None:
        found = self._members.get(name)
        if type(found) is not type(value) or found != value:
            raise MalformedEvidence(f"{name} of the document is not {value!r}")

    def number(self, name: str) -> int:
        found = self._members.get(name)
        if type(found) is not int or not 0 <= found <= codec.MAX_INTEGER:
            raise MalformedEvidence(f"{name} of the document is missing or no number")
        return found

    def time(self, name: str) -> int:
        found = self._members.get(name)
        try:
            text = found if isinstance(found, str) and _TIME.fullmatch(found) else ""
            return int(datetime.fromisoformat(text).timestamp())
        except ValueError:
            raise MalformedEvidence(f"{name} of the document is not a time") from None

    def objects(self, name: str) -> list[_Document]:
        found = self._members.get(name)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise MalformedEvidence(f"{name} of the document is missing or no list")
        return [_Document(item) for item in found]
