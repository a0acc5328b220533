"""The bundle of a model signature: a sigstore bundle v0.3 that carries a signed statement and says whose key signed it.

Specification: sigstore protobuf-specs, bundle v0.3 (JSON); DSSE v1.0.2; OpenSSF Model Signing v1.0, whose reference
implementation, model-signing 1.1, writes and reads the same bytes.

Knows: bundles. Does not know: files (`statement`), keys (`signers`), whom to believe (`trust`).
Not covered: transparency logs and signed timestamps, which may be in a bundle and are not looked at; message signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from strongroom.crypto import signatures
from strongroom.crypto.signatures import PublicKey, SigningKey
from strongroom.errors import MalformedArtifact, MalformedRecord, SignatureInvalid
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.sealed.signing.signers import Signer, as_signer
from strongroom.sealed.signing.statement import SignedFiles, read_statement, write_statement
from strongroom.sealed.signing.trust import CURVES, MAX_CERTIFICATES, Material, Trust, as_trust

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_BUNDLE_BYTES = 4 * 1024 * 1024
MAX_CERTIFICATE_BYTES = 16 * 1024

_WAYS = ("publicKey", "x509CertificateChain", "certificate")


def sign_files(files: SignedFiles, signer: SigningKey | Signer) -> bytes:
    """The bundle, as JSON. Raises `UsageError` for a key on no curve of model signing, and what the signer raises."""
    signer = as_signer(signer)
    unsigned = Envelope(PAYLOAD_TYPE, write_statement(files), ())
    signature = signer.sign(unsigned.pre_authentication_encoding())
    signed = ((signatures.fingerprint(signer.public), signature),)
    bundle: dict[str, Any] = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {**_to_json(signer), "tlogEntries": []},
        "dsseEnvelope": Envelope(PAYLOAD_TYPE, unsigned.payload, signed).__to_json__(),
    }
    return rfc8785.dumps(bundle)


def verify_files(bundle: bytes | str, trust: PublicKey | Trust) -> SignedFiles:
    """What `bundle` says, once its signature holds under a key that `trust` admits.

    Raises `SignatureInvalid`, `MalformedArtifact`.
    """
    envelope, material = parse_bundle(bundle)
    public = as_trust(trust).key(material)
    if not isinstance(public, EllipticCurvePublicKey) or public.curve.name not in CURVES:
        raise SignatureInvalid("models are signed with a key on P-256, P-384 or P-521, and this is another kind of key")
    return read_statement(signatures.open_envelope(envelope, PAYLOAD_TYPE, [public]))


def parse_bundle(bundle: bytes | str) -> tuple[Envelope, Material]:
    """The signed envelope of a bundle, and what it says of the key. Raises `MalformedArtifact`."""
    try:
        members = _members(codec.parse_json(bundle, limit=MAX_BUNDLE_BYTES))
        return codec.from_json(Envelope, members.get("dsseEnvelope")), _material(members.get("verificationMaterial"))
    except MalformedRecord as error:
        raise MalformedArtifact(f"this is not a bundle of a model signature: {error.message}") from None


def key_hint(public: PublicKey) -> str:
    """The name of a key in a bundle: SHA-256 of its PEM, in hexadecimal; a hint and never proof."""
    return hashlib.sha256(signatures.public_to_pem(public)).hexdigest()


def _to_json(signer: Signer) -> dict[str, Any]:
    if not signer.certificates:
        return {"publicKey": {"hint": key_hint(signer.public)}}
    chain = [{"rawBytes": base64.b64encode(der).decode()} for der in signer.certificates]
    return {"x509CertificateChain": {"certificates": chain}}


def _members(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("mediaType") != BUNDLE_TYPE:
        raise MalformedRecord("another type or version")
    return value


def _material(value: Any) -> Material:
    if not isinstance(value, dict) or sum(way in value for way in _WAYS) != 1:
        raise MalformedRecord("it does not say with one key or one certificate who signed")
    if "publicKey" in value:
        found = value["publicKey"]
        if not isinstance(found, dict) or not isinstance(found.get("hint", ""), str | None):
            raise MalformedRecord("its key is not named as a text")
        return Material(found.get("hint"), ())
    chain = value.get("x509CertificateChain", {"certificates": [value.get("certificate")]})
    entries = chain.get("certificates") if isinstance(chain, dict) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CERTIFICATES:
        raise MalformedRecord(f"its chain does not hold 1 to {MAX_CERTIFICATES} certificates")
    return Material(None, tuple(_certificate(entry) for entry in entries))


def _certificate(entry: Any) -> bytes:
    text = entry.get("rawBytes") if isinstance(entry, dict) else None
    if not isinstance(text, str) or len(text) > 2 * MAX_CERTIFICATE_BYTES:
        raise MalformedRecord("a certificate is missing or too long")
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise MalformedRecord("a certificate is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise MalformedRecord("a certificate's base64 is not canonical")
    return data
