"""JWE in its JSON serialisations (RFC 7516 section 7.2), with the algorithms that ocicrypt writes and no others.

Key encryption is RSA-OAEP (SHA-1, as its name has it in RFC 7518 section 4.3) for RSA keys and ECDH-ES+A256KW (section 4.6) for
EC keys; content encryption is A256GCM (section 5.3). One recipient is written in the flattened form, more in the general
one; both are read, also with the second `encrypted_key` that ocicrypt's library leaves beside a list of recipients.

Safety: the key decides which algorithm is tried, never the header alone, which is not authenticated where there are
several recipients; points are checked to lie on the key's own curve; members, header parameters and extensions that are
not understood are refused. Whoever has the public key can make such a JWE: it proves nobody's authorship.
Knows: headers, key wrapping. Does not know: what is inside. Not covered: compact serialisation, `zip`, `apu`, `apv`, `aad`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from strongroom.crypto.segments import Random
from strongroom.errors import MalformedArtifact, MalformedRecord, SealBroken, UsageError
from strongroom.records import codec
from strongroom.sealed.ocicrypt.keys import CURVES, PrivateKey, Recipient

MAX_JWE_BYTES = 256 * 1024
MAX_RECIPIENTS = 64
KEY_BYTES = 32
IV_BYTES = 12
TAG_BYTES = 16
WRAPPED_BYTES = KEY_BYTES + 8

ENCRYPTION = "A256GCM"
RSA_OAEP = "RSA-OAEP"
ECDH_ES = "ECDH-ES+A256KW"

_SHARED = {"protected", "unprotected", "iv", "ciphertext", "tag"}
_PER_RECIPIENT = {"header", "encrypted_key"}
_OAEP = OAEP(MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303 (RFC 7518 section 4.3; collisions do not matter here)


def encrypt(payload: bytes, recipients: Sequence[Recipient], *, random: Random) -> bytes:
    """`payload` for each of `recipients`, as JSON. Raises `UsageError` for none or too many."""
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise UsageError(f"1 to {MAX_RECIPIENTS} recipients can open a layer", remedy="Name --recipient PEM.")
    content_key, iv = random(KEY_BYTES), random(IV_BYTES)
    boxes = [_wrap(content_key, recipient) for recipient in recipients]
    shared: dict[str, Any] = {"enc": ENCRYPTION}
    if len(boxes) == 1:
        shared |= boxes[0][0]
        keys: dict[str, Any] = {"encrypted_key": codec.b64encode(boxes[0][1])}
    else:
        keys = {"recipients": [{"header": header, "encrypted_key": codec.b64encode(box)} for header, box in boxes]}
    protected = codec.b64encode(rfc8785.dumps(shared))
    sealed = AESGCM(content_key).encrypt(iv, payload, protected.encode())
    body, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
    parts = {"iv": iv, "ciphertext": body, "tag": tag}
    return rfc8785.dumps(
        {"protected": protected, **keys, **{name: codec.b64encode(part) for name, part in parts.items()}}
    )


def decrypt(data: bytes, key: PrivateKey) -> bytes:
    """The payload, if `key` is a recipient's. Raises `SealBroken` if it is nobody's here, `MalformedArtifact`."""
    try:
        value = codec.parse_json(data, limit=MAX_JWE_BYTES)
        return _open(value, key)
    except MalformedRecord as error:
        raise MalformedArtifact(f"a wrapped key is no JWE: {error.message}") from None


def _open(value: Any, key: PrivateKey) -> bytes:
    boxes = _boxes(value)
    protected = value.get("protected", "")
    shared = _object(codec.parse_json(codec.b64decode(_text(protected)), limit=MAX_JWE_BYTES)) if protected else {}
    iv, body, tag = (codec.b64decode(_text(value.get(name))) for name in ("iv", "ciphertext", "tag"))
    if len(iv) != IV_BYTES or len(tag) != TAG_BYTES:
        raise MalformedRecord("a nonce or a tag of the wrong length")
    for box in boxes:
        header = _joined(shared, _object(value.get("unprotected", {})), _object(box.get("header", {})))
        content_key = _unwrap(header, codec.b64decode(_text(box.get("encrypted_key"))), key)
        if content_key is None:
            continue
        try:
            return AESGCM(content_key).decrypt(iv, body + tag, protected.encode())
        except InvalidTag:
            raise SealBroken("a wrapped key was changed") from None
    raise SealBroken("this key opens none of the wrapped keys")


def _boxes(value: Any) -> list[dict[str, Any]]:
    """The recipients of either form."""
    value = _object(value)
    general = "recipients" in value
    if set(value) - _SHARED - ({"recipients", "encrypted_key"} if general else _PER_RECIPIENT):
        raise MalformedRecord("it has members that are not understood")
    if not general:
        return [value]
    boxes = value["recipients"]
    if not isinstance(boxes, list) or not 1 <= len(boxes) <= MAX_RECIPIENTS:
        raise MalformedRecord(f"it has not 1 to {MAX_RECIPIENTS} recipients")
    for box in boxes:
        if set(_object(box)) - _PER_RECIPIENT:
            raise MalformedRecord("a recipient has members that are not understood")
    return boxes


def _joined(*headers: dict[str, Any]) -> dict[str, Any]:
    """The JOSE header: the union of its parts, which have no parameter in common (RFC 7516 section 7.2.1)."""
    joined: dict[str, Any] = {}
    for header in headers:
        if joined.keys() & header.keys():
            raise MalformedRecord("a header parameter occurs twice")
        joined |= header
    if joined.get("enc") != ENCRYPTION or joined.keys() & {"zip", "crit"}:
        raise MalformedRecord("its content encryption is not plain A256GCM")
    return joined


def _wrap(content_key: bytes, recipient: Recipient) -> tuple[dict[str, Any], bytes]:
    if isinstance(recipient, RSAPublicKey):
        return {"alg": RSA_OAEP}, recipient.encrypt(content_key, _OAEP)
    ephemeral = ec.generate_private_key(recipient.curve)
    wrapping = _agreed(ephemeral, recipient)
    return {"alg": ECDH_ES, "epk": _to_jwk(ephemeral.public_key())}, aes_key_wrap(wrapping, content_key)


def _unwrap(header: dict[str, Any], box: bytes, key: PrivateKey) -> bytes | None:
    """The content key, or None where this box is not for `key`."""
    algorithm = header.get("alg")
    try:
        if isinstance(key, RSAPrivateKey):
            found = key.decrypt(box, _OAEP) if algorithm == RSA_OAEP else None
        elif algorithm == ECDH_ES and not header.keys() & {"apu", "apv"} and len(box) == WRAPPED_BYTES:
            ephemeral = _from_jwk(header.get("epk"), key.curve)
            found = None if ephemeral is None else aes_key_unwrap(_agreed(key, ephemeral), box)
        else:
            found = None
    except (ValueError, InvalidUnwrap):  # sealed to another key
        return None
    return found if found is not None and len(found) == KEY_BYTES else None


def _agreed(private: EllipticCurvePrivateKey, public: EllipticCurvePublicKey) -> bytes:
    """The wrapping key of ECDH-ES+A256KW (RFC 7518 section 4.6.2), without PartyUInfo and PartyVInfo."""
    name = ECDH_ES.encode()
    empty = (0).to_bytes(4, "big")
    about = len(name).to_bytes(4, "big") + name + empty + empty + (8 * KEY_BYTES).to_bytes(4, "big")
    return ConcatKDFHash(hashes.SHA256(), KEY_BYTES, about).derive(private.exchange(ec.ECDH(), public))


def _to_jwk(public: EllipticCurvePublicKey) -> dict[str, str]:
    numbers, size = public.public_numbers(), _coordinate_bytes(public.curve)
    x, y = (codec.b64encode(number.to_bytes(size, "big")) for number in (numbers.x, numbers.y))
    return {"crv": CURVES[public.curve.name], "kty": "EC", "x": x, "y": y}


def _from_jwk(value: Any, curve: ec.EllipticCurve) -> EllipticCurvePublicKey | None:
    """The point, checked to lie on `curve`; None if it says that it is of another curve. Raises `ValueError`."""
    point = _object(value)
    if set(point) != {"crv", "kty", "x", "y"} or point["kty"] != "EC":
        raise MalformedRecord("an ephemeral key is not an EC key")
    if point["crv"] != CURVES[curve.name]:
        return None
    x, y = (codec.b64decode(_text(point[name])) for name in ("x", "y"))
    if len(x) != len(y) or len(x) != _coordinate_bytes(curve):
        raise MalformedRecord("a coordinate of the wrong length")
    return ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()


def _coordinate_bytes(curve: ec.EllipticCurve) -> int:
    return (curve.key_size + 7) // 8


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedRecord("a part of it is not an object")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedRecord("a part of it is missing or not text")
    return value
