"""A broker's identity: its public keys, signed by the first of them, named by one fingerprint.

Knows: how an identity is signed and opened. Does not know: which broker to trust.
Safety: the signature shows only that these keys belong together. Who the broker is, the fingerprint decides; workers
have it in their measured configuration, owners and users in theirs.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto.signatures import (
    ed25519_public,
    open_envelope,
    public_from_der,
    raw_public,
    sign_envelope,
)
from strongroom.errors import MalformedRecord, SignatureInvalid, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.release import BrokerIdentity

PAYLOAD_TYPE = "application/vnd.strongroom.broker-identity.v1+json"


def sign_identity(identity: BrokerIdentity, signing: Ed25519PrivateKey) -> Envelope:
    """The identity in its envelope; `signing` is the private half of its first key. Raises `UsageError`."""
    if raw_public(signing) != identity.signing:
        raise UsageError("an identity is signed by its own first key")
    return sign_envelope(PAYLOAD_TYPE, codec.encode(identity), signing)


def open_identity(envelope: Envelope, fingerprint: Digest | None) -> BrokerIdentity:
    """The identity in `envelope`, if it is of this `fingerprint`. Raises `SignatureInvalid`, `MalformedRecord`.

    None says that no broker is known yet: then the answer shows only that these keys belong together.
    """
    identity = codec.decode(BrokerIdentity, envelope.payload)
    open_envelope(envelope, PAYLOAD_TYPE, [ed25519_public(identity.signing)])
    if fingerprint is not None and not hmac.compare_digest(identity.fingerprint, fingerprint):
        raise SignatureInvalid(
            "this is another broker than the one expected",
            remedy="Check the broker's address and fingerprint; somebody may answer in its place.",
        )
    return identity


def token_key(identity: BrokerIdentity) -> EllipticCurvePublicKey:
    """The key that signs this broker's verdict tokens, on P-384. Raises `MalformedRecord`."""
    key = public_from_der(identity.token)
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise MalformedRecord("a broker's tokens are signed with a key on P-384")
    return key
