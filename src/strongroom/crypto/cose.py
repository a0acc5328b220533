"""COSE_Sign1 (RFC 9052 sections 4.2 and 4.4): one payload, one signature, ECDSA (RFC 9053 section 2.1).

Knows: the four parts, the bytes that are signed, and the curve that goes with each algorithm. Does not know: whose key
it is, or what the payload says. Safety: the caller fixes the algorithm; the message only has to agree, in its
protected header. Of the unprotected header nothing is used: not an algorithm, not a key, not a certificate. A header
that the signer calls critical is refused, because none is understood. The payload is always inside, and there is no
external data. Not covered: COSE_Sign, MACs, encryption, counter signatures.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from strongroom.crypto import cbor
from strongroom.errors import MalformedEvidence, SignatureInvalid, UsageError

TAG = 18
ALGORITHM, CRITICAL = 1, 2
CONTEXT = "Signature1"
PARTS = 4
MAX_HEADER_BYTES = 1024
KEY_TYPE, EC2, CURVE, X, Y, KEY_ALGORITHM = 1, 2, -1, -2, -3, 3


class Algorithm(enum.IntEnum):
    """ECDSA with the hash of the same strength (RFC 9053 section 2.1), fully specified by its curve here."""

    ES256 = -7
    ES384 = -35
    ES512 = -36


_CURVES: dict[Algorithm, type[ec.EllipticCurve]] = {
    Algorithm.ES256: ec.SECP256R1,
    Algorithm.ES384: ec.SECP384R1,
    Algorithm.ES512: ec.SECP521R1,
}
_HASHES: dict[Algorithm, type[hashes.HashAlgorithm]] = {
    Algorithm.ES256: hashes.SHA256,
    Algorithm.ES384: hashes.SHA384,
    Algorithm.ES512: hashes.SHA512,
}
_COORDINATE_BYTES = {Algorithm.ES256: 32, Algorithm.ES384: 48, Algorithm.ES512: 66}
_CURVE_NUMBERS = {1: Algorithm.ES256, 2: Algorithm.ES384, 3: Algorithm.ES512}


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed message; `protected` and `payload` are the bytes as they stood, because they are signed as they stood."""

    protected: bytes
    unprotected: Mapping[Any, Any]
    payload: bytes
    signature: bytes


def parse(data: bytes, *, limit: int = cbor.MAX_BYTES, tagged: bool | None = None) -> Sign1:
    """Read one message of at most `limit` bytes; `tagged` says whether it must carry its tag, None that it may.

    Raises `MalformedEvidence`.
    """
    found = cbor.decode(data, limit=limit, depth=6, tags={TAG})
    if tagged is not None and isinstance(found, cbor.Tag) is not tagged:
        raise MalformedEvidence(f"a COSE message that is {'not ' if tagged else ''}tagged")
    parts = found.value if isinstance(found, cbor.Tag) else found
    if not isinstance(parts, tuple) or len(parts) != PARTS:
        raise MalformedEvidence("a COSE message that is not an array of four parts")
    protected, unprotected, payload, signature = parts
    octets = isinstance(protected, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)
    if not octets or not isinstance(unprotected, Mapping):
        raise MalformedEvidence("a COSE message with a part of the wrong type, or without its payload")
    return Sign1(protected, unprotected, payload, signature)


def verify(message: Sign1, key: ec.EllipticCurvePublicKey, algorithm: Algorithm) -> None:
    """Return if `message` was signed with `algorithm` under `key`. Raises `SignatureInvalid` with the reason."""
    _check_header(message.protected, algorithm)
    if not isinstance(key.curve, _CURVES[algorithm]):
        raise SignatureInvalid(f"a key on {key.curve.name} does not verify {algorithm.name}")
    size = _COORDINATE_BYTES[algorithm]
    if len(message.signature) != 2 * size:
        raise SignatureInvalid(f"a COSE signature of {len(message.signature)} bytes where {2 * size} are needed")
    r, s = (int.from_bytes(part, "big") for part in (message.signature[:size], message.signature[size:]))
    try:
        key.verify(encode_dss_signature(r, s), _to_be_signed(message.protected, message.payload), _ecdsa(algorithm))
    except InvalidSignature:
        raise SignatureInvalid("the signature of a COSE message does not hold") from None


def sign(payload: bytes, key: ec.EllipticCurvePrivateKey, algorithm: Algorithm, *, tagged: bool = True) -> bytes:
    """`payload` signed as one message, its algorithm in the protected header and nothing in the other one.

    Raises `UsageError` for a key on another curve.
    """
    if not isinstance(key.curve, _CURVES[algorithm]):
        raise UsageError(f"a key on {key.curve.name} does not sign {algorithm.name}")
    protected = cbor.encode({ALGORITHM: int(algorithm)})
    size = _COORDINATE_BYTES[algorithm]
    r, s = decode_dss_signature(key.sign(_to_be_signed(protected, payload), _ecdsa(algorithm)))
    parts = [protected, {}, payload, r.to_bytes(size, "big") + s.to_bytes(size, "big")]
    return cbor.encode(cbor.Tag(TAG, parts) if tagged else parts)


def key_from_point(point: bytes, algorithm: Algorithm) -> ec.EllipticCurvePublicKey:
    """The key at an uncompressed point (SEC 1 section 2.3.4) of the curve of `algorithm`. Raises `MalformedEvidence`."""
    if len(point) != 1 + 2 * _COORDINATE_BYTES[algorithm] or point[0] != 4:  # noqa: PLR2004 (uncompressed)
        raise MalformedEvidence(f"a key that is not an uncompressed point for {algorithm.name}")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[algorithm](), point)
    except ValueError:
        raise MalformedEvidence(f"a key that is not on the curve of {algorithm.name}") from None


def key_from_cose(data: bytes, algorithm: Algorithm) -> ec.EllipticCurvePublicKey:
    """The key in a COSE_Key of type EC2 (RFC 9053 section 7.1.1) for `algorithm`. Raises `MalformedEvidence`.

    Admits the key type, the curve and both coordinates, and an algorithm that agrees; compressed points are refused.
    """
    fields = cbor.Fields(cbor.decode(data, limit=MAX_HEADER_BYTES, depth=2), "a COSE key")
    size = _COORDINATE_BYTES[algorithm]
    fields.integer(KEY_TYPE, range(EC2, EC2 + 1))
    if _CURVE_NUMBERS[fields.integer(CURVE, range(1, 4))] is not algorithm:
        raise MalformedEvidence(f"a COSE key on another curve than that of {algorithm.name}")
    if fields.has(KEY_ALGORITHM):
        fields.integer(KEY_ALGORITHM, range(algorithm, algorithm + 1))
    point = b"\x04" + fields.octets(X, {size}) + fields.octets(Y, {size})
    fields.end()
    return key_from_point(point, algorithm)


def _check_header(protected: bytes, algorithm: Algorithm) -> None:
    try:
        header = cbor.decode(protected, limit=MAX_HEADER_BYTES, depth=4)
    except MalformedEvidence:
        header = None
    if not isinstance(header, Mapping):
        raise SignatureInvalid("a COSE message without a protected header")
    if CRITICAL in header:
        raise SignatureInvalid("a COSE message with a critical header, which is not understood")
    stated = header.get(ALGORITHM)
    if type(stated) is not int or stated != algorithm:
        raise SignatureInvalid(f"a COSE message that is not signed with {algorithm.name}")


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """The Sig_structure of one signer without external data (RFC 9052 section 4.4)."""
    return cbor.encode([CONTEXT, protected, b"", payload])


def _ecdsa(algorithm: Algorithm) -> ec.ECDSA:
    return ec.ECDSA(_HASHES[algorithm]())
