"""The files that people have, sorted by what they are: certificates, revocation lists, Intel's documents, keys, bundles.

Knows: how each is recognised. Does not know: what belongs together (`strongroom.appraisal.gather`), or whether any of it
is true: the verifier judges, and a wrong piece makes its check fail. PEM, DER, hexadecimal and base64 are read. Not
covered: PKCS #7 and #12.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, fields
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate, CertificateRevocationList

from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, MalformedRecord, Unreadable
from strongroom.records import codec
from strongroom.records.evidence import Collateral, IntelCollateral

MAX_BYTES = 4 * 1024 * 1024
MAX_PATH = 8
_PEM = re.compile(r"-----BEGIN (CERTIFICATE|X509 CRL)-----([^-]*)-----END \1-----")
_SIGNED = {"tcbInfo": re.compile(r'"tcbInfo":'), "enclaveIdentity": re.compile(r'"enclaveIdentity":')}

V3_MEMBERS = {
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
V3_BINARY = frozenset({"tcb_info_signature", "qe_identity_signature", "root_ca_crl", "pck_crl"})


@dataclass(frozen=True, slots=True)
class Signed:
    """A document of Intel's: the exact text that is signed, and its signature."""

    text: str
    signature: bytes


@dataclass
class Pile:
    """Pieces of collateral, of whatever kind; `add` sorts them, the others put them together.

    `now` (Unix seconds) is when they will be judged: of several documents the one that holds then is picked.
    """

    bundles: list[Collateral] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    crls: list[CertificateRevocationList] = field(default_factory=list)
    tcb_infos: list[Signed] = field(default_factory=list)
    identities: list[Signed] = field(default_factory=list)
    keys: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    enrolments: list[bytes] = field(default_factory=list)
    now: int | None = None

    def add(self, data: bytes) -> None:
        """Take one file in. Raises `Unreadable` for bytes that are no collateral."""
        if len(data) > MAX_BYTES:
            raise MalformedRecord(f"a file of {len(data)} bytes is no collateral")
        if data.lstrip()[:1] in (b"{", b"["):
            self._add_json(codec.parse_json(data), data)
        elif b"-----BEGIN " in data:
            self._add_pem(data)
        else:
            self._add_der(_binary(data))

    def over(self, other: Pile) -> Pile:
        """Both together; what is here comes first."""
        lists = [member.name for member in fields(self) if member.name != "now"]
        return Pile(**{name: getattr(self, name) + getattr(other, name) for name in lists}, now=self.now)

    def known(self, name: str) -> Any:
        """The first bundle's part of one vendor (`intel`, `amd`, …), or None."""
        return next((part for bundle in self.bundles if (part := getattr(bundle, name)) is not None), None)

    def path_from(self, leaf: Certificate) -> list[Certificate]:
        """The certificates above `leaf`, by name and signature, as far as they are here."""
        path: list[Certificate] = []
        current = leaf
        while current.issuer != current.subject and len(path) < MAX_PATH:
            above = next((found for found in self.certificates if _issued(current, found)), None)
            if above is None:
                break
            path.append(above)
            current = above
        return path

    def crl_of(self, issuer: Certificate) -> bytes:
        """The revocation list of an issuer, DER, the newest that is not from after the moment; empty where there is none."""
        found = [crl for crl in self.crls if crl.issuer == issuer.subject and _signed_list(crl, issuer)]
        past = [crl for crl in found if self.now is None or crl.last_update_utc.timestamp() <= self.now]
        newest = max(past or found, key=lambda crl: crl.last_update_utc, default=None)
        return newest.public_bytes(Encoding.DER) if newest is not None else b""

    def _add_json(self, value: Any, data: bytes) -> None:
        if isinstance(value, list):
            for item in value:
                self._add_json(item, b"")
        elif not isinstance(value, dict):
            raise MalformedRecord("this holds no collateral")
        elif value.get("type") == Collateral.TYPE:
            self.bundles.append(codec.from_json(Collateral, value))
        elif set(V3_MEMBERS) <= value.keys():
            self.bundles.append(Collateral(intel=_from_v3(value)))
        elif "tcbInfo" in value:
            self.tcb_infos.append(_signed(value, data, "tcbInfo"))
        elif "enclaveIdentity" in value:
            self.identities.append(_signed(value, data, "enclaveIdentity"))
        elif "payloadType" in value and data:
            self.enrolments.append(data)
        elif value.get("kty") == "EC" or "pkey" in value:
            self.keys.append(_endorsed_key(value))
        else:
            raise MalformedRecord("this holds no collateral")

    def _add_pem(self, data: bytes) -> None:
        text = data.decode("ascii", "replace")
        found = list(_PEM.finditer(text))
        if not found:
            raise MalformedEvidence("this PEM holds neither certificates nor revocation lists")
        for block in found:
            try:
                der = base64.b64decode("".join(block[2].split()), validate=True)
            except (ValueError, binascii.Error):
                raise MalformedEvidence("this PEM is not base64 inside") from None
            self._add_der(der)

    def _add_der(self, der: bytes) -> None:
        try:
            self.certificates.append(x509.load_certificate(der))
        except MalformedEvidence:
            self.crls.append(x509.load_crl(der))


def _from_v3(value: dict[str, Any]) -> IntelCollateral:
    members = {ours: value[theirs] for theirs, ours in V3_MEMBERS.items()}
    if not all(isinstance(member, str) for member in members.values()):
        raise MalformedRecord("a member of the collateral is not text")
    pck_chain = value.get("pck_certificate_chain") or ""
    try:
        intel = {n: codec.b64encode(bytes.fromhex(m)) if n in V3_BINARY else m for n, m in members.items()}
    except ValueError:
        raise MalformedRecord("signatures and revocation lists of the collateral are hexadecimal") from None
    return codec.from_json(IntelCollateral, {**intel, "pck_chain": pck_chain if isinstance(pck_chain, str) else ""})


def _signed(value: dict[str, Any], data: bytes, name: str) -> Signed:
    """The signed text is what stands in the file, byte for byte: from after the member's name to its closing brace."""
    signature, content = value.get("signature"), value[name]
    if not isinstance(signature, str) or not isinstance(content, dict):
        raise MalformedRecord(f"{name} comes without its signature")
    text = data.decode("utf-8", "replace")
    found = _SIGNED[name].search(text)
    start = text.find("{", found.end()) if found else -1
    end = _closing(text, start)
    try:
        return Signed(text[start:end], bytes.fromhex(signature))
    except ValueError:
        raise MalformedRecord(f"the signature of {name} is not hexadecimal") from None


def _closing(text: str, start: int) -> int:
    """Behind the brace that closes the one at `start`; braces in strings do not count. The text is JSON already."""
    depth, quoted, at = 0, False, start
    while 0 <= at < len(text):
        letter = text[at]
        if letter == "\\" and quoted:
            at += 1
        elif letter == '"':
            quoted = not quoted
        elif not quoted and letter in "{}":
            depth += 1 if letter == "{" else -1
            if depth == 0:
                return at + 1
        at += 1
    raise MalformedRecord("a signed document has no end")


def _endorsed_key(value: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    """A JSON Web Key on P-256, P-384 or P-521 as SubjectPublicKeyInfo, with the platform it is of where that is said."""
    jwk = value.get("pkey", value)
    curves: dict[Any, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    curve = curves.get(jwk.get("crv")) if isinstance(jwk, dict) else None
    if curve is None or not isinstance(jwk.get("x"), str) or not isinstance(jwk.get("y"), str):
        raise MalformedRecord("this key is not an elliptic one in JWK")
    try:
        x, y = (int.from_bytes(codec.b64decode(jwk[name].rstrip("=")), "big") for name in ("x", "y"))
        key = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
        places = [bytes.fromhex(str(value.get(name, ""))) for name in ("implementation-id", "instance-id")]
    except ValueError:
        raise MalformedRecord("this key is not a point of its curve") from None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), places[0], places[1]


def _binary(data: bytes) -> bytes:
    """DER as it is, or out of hexadecimal or base64 text."""
    if data[:1] == b"\x30":  # a SEQUENCE; the same in hexadecimal begins with the letter 3
        return data
    compact = b"".join(data.split())
    try:
        return bytes.fromhex(compact.decode("ascii"))
    except ValueError:
        pass
    try:
        return base64.b64decode(compact, validate=True)
    except (ValueError, binascii.Error):
        raise Unreadable("this is no collateral in JSON, PEM, DER, hexadecimal or base64") from None


def _issued(certificate: Certificate, issuer: Certificate) -> bool:
    """Names that differ and a signature that does not hold belong to somebody else: products share names of people."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # noqa: BLE001 (a candidate only; the verifier says why a chain does not hold)
        return False
    return True


def _signed_list(crl: CertificateRevocationList, issuer: Certificate) -> bool:
    try:
        return crl.is_signature_valid(x509.any_key(issuer))
    except Exception:  # noqa: BLE001 (a candidate only; see `_issued`)
        return False
