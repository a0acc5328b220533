"""OpenSSF Model Signing v1.0: a sigstore bundle v0.3 around an in-toto statement about a set of files, with an EC key.

Specification: the layout that model-signing 1.1 writes and reads (predicate `https://model_signing/signature/v1.0`);
in-toto attestation, Statement v1; DSSE v1.0.2; sigstore protobuf-specs, bundle v0.3. Its own verifier leaves git's files
at the top of a folder out of account, so nothing is said about them here either.

Knows: statements and bundles. Does not know: where files lie or whose a key is.
Not covered: certificates, transparency logs, sharded hashing, symbolic links; the bundle formats before v1.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from strongroom.crypto import signatures
from strongroom.errors import MalformedArtifact, MalformedRecord, SignatureInvalid, UsageError
from strongroom.records import codec
from strongroom.records.artifact import SealedFile, is_plain_path
from strongroom.records.envelope import Envelope

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_BUNDLE_BYTES = 4 * 1024 * 1024
GIT_PLACES = frozenset({".git", ".gitattributes", ".github", ".gitignore"})

_HEX = re.compile(r"(?:[0-9a-f]{2}){16,64}")
_ALGORITHMS = frozenset({"sha256", "blake3"})


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """What a bundle says: of a thing called `name`, each path and its digest (hexadecimal) under `algorithm`."""

    name: str
    algorithm: str
    digests: Mapping[str, str]


def about_files(name: str, files: Iterable[SealedFile]) -> SignedFiles:
    """What the inner signature of an artifact says: SHA-256 of each plaintext, as the stock command line expects it."""
    stated = {f.path: f.sha256.removeprefix("sha256:") for f in files if f.path.split("/", 1)[0] not in GIT_PLACES}
    return SignedFiles(name, "sha256", stated)


def sign_files(files: SignedFiles, key: signatures.SigningKey) -> bytes:
    """The bundle, as JSON. Raises `UsageError` for a key that is not on P-256, which all implementations know."""
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise UsageError("an artifact is signed with a key on P-256")
    envelope = signatures.sign_envelope(PAYLOAD_TYPE, rfc8785.dumps(_statement(files)), key)
    bundle: dict[str, Any] = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key_hint(key.public_key())}, "tlogEntries": []},
        "dsseEnvelope": envelope.__to_json__(),
    }
    return rfc8785.dumps(bundle)


def verify_files(bundle: bytes | str, public: signatures.PublicKey) -> SignedFiles:
    """What `bundle` says, once its signature holds under `public`. Raises `SignatureInvalid`, `MalformedArtifact`."""
    envelope = _envelope(bundle)
    if not isinstance(public, EllipticCurvePublicKey):
        raise SignatureInvalid("an artifact is signed with a key on P-256, and this is another kind of key")
    payload = signatures.open_envelope(envelope, PAYLOAD_TYPE, [public])
    try:
        return _signed_files(codec.parse_json(payload, limit=MAX_BUNDLE_BYTES))
    except (MalformedRecord, KeyError, TypeError, AttributeError):
        raise MalformedArtifact(
            "a model signature holds, but what it signs is not a statement of this version"
        ) from None


def key_hint(public: signatures.PublicKey) -> str:
    """The name of a key in a bundle: SHA-256 of its PEM, in hexadecimal; a hint and never proof."""
    return hashlib.sha256(signatures.public_to_pem(public)).hexdigest()


def _statement(files: SignedFiles) -> dict[str, Any]:
    # Sorted by the parts of the path, as pathlib does: `a/b` comes before `a.b`.
    ordered = sorted(files.digests.items(), key=lambda item: item[0].split("/"))
    resources = [{"name": path, "algorithm": files.algorithm, "digest": digest} for path, digest in ordered]
    root = _root([digest for _, digest in ordered])
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": files.name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": files.algorithm, "allow_symlinks": False},
            "resources": resources,
        },
    }


def _signed_files(statement: dict[str, Any]) -> SignedFiles:
    (subject,) = _expect(len(statement["subject"]) == 1, statement["subject"])
    serialization, resources = statement["predicate"]["serialization"], statement["predicate"]["resources"]
    algorithm = serialization["hash_type"]
    _expect(statement["_type"] == STATEMENT_TYPE and statement["predicateType"] == PREDICATE_TYPE)
    _expect(serialization["method"] == "files" and algorithm in _ALGORITHMS and bool(resources))
    digests = {}
    for resource in resources:
        path, digest = resource["name"], resource["digest"]
        _expect(is_plain_path(path) and path not in digests and resource["algorithm"] == algorithm)
        digests[path] = _expect(_HEX.fullmatch(digest) is not None, digest)
    _expect(isinstance(subject["name"], str) and subject["digest"]["sha256"] == _root(list(digests.values())))
    return SignedFiles(subject["name"], algorithm, digests)


def _root(digests: list[str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def _envelope(bundle: bytes | str) -> Envelope:
    try:
        value = codec.parse_json(bundle, limit=MAX_BUNDLE_BYTES)
        _expect(isinstance(value, dict) and value.get("mediaType") == BUNDLE_TYPE)
        return codec.from_json(Envelope, value.get("dsseEnvelope"))
    except MalformedRecord as error:
        raise MalformedArtifact(f"this is not a bundle of a model signature: {error.message}") from None


def _expect(condition: bool, value: Any = None) -> Any:  # noqa: FBT001 (the condition is the point)
    if not condition:
        raise MalformedRecord("another type, version or shape")
    return value
