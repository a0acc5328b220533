"""Grants: a data key, sealed to one worker under its whole context, and signed by the broker.

Knows: how a grant is closed and opened. Does not know: why it was given (`decisions`). Two locks, for two attackers:
the seal (HPKE, MLKEM768-X25519) keeps the key from everybody but the worker and binds it to the context (as HPKE
`info`); the signature keeps others from giving the worker a key of theirs, which anyone could seal.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto.hpke import ReleaseKey, seal_to
from strongroom.crypto.signatures import ed25519_public, open_envelope, sign_envelope
from strongroom.errors import GrantInvalid, Refused, Unreadable
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Evidence
from strongroom.records.release import BrokerIdentity, Grant, GrantContext, Use, WrappedKey

PAYLOAD_TYPE = "application/vnd.strongroom.grant.v1+json"
DATA_KEY_BYTES = 32


def seal_grant(data_key: bytes, context: GrantContext, recipient: bytes) -> Grant:
    """`data_key` for the holder of `recipient` (1216 bytes), openable only under `context`."""
    encapsulation, ciphertext = seal_to(recipient, data_key, codec.encode(context))
    return Grant(context, encapsulation, ciphertext)


def sign_grant(grant: Grant, signing: Ed25519PrivateKey) -> Envelope:
    """The grant in the envelope in which it travels."""
    return sign_envelope(PAYLOAD_TYPE, codec.encode(grant), signing)


def read_grant(envelope: Envelope, broker: BrokerIdentity) -> Grant:
    """The grant in an envelope that `broker` signed. Raises `GrantInvalid`."""
    try:
        return codec.decode(Grant, open_envelope(envelope, PAYLOAD_TYPE, [ed25519_public(broker.signing)]))
    except (Refused, Unreadable) as error:
        raise GrantInvalid("this grant is not one that the measured broker signed", detail=error.code) from None


def open_grant(
    envelope: Envelope,
    *,
    broker: BrokerIdentity,
    release_key: ReleaseKey,
    evidence: Evidence,
    artifact: Digest,
    wrapped: WrappedKey,
    lease_id: str,
    use: Use = Use.OPEN,
) -> bytes:
    """The data key (32 bytes) in a grant that answers `evidence` and one key request. Raises `GrantInvalid`.

    `broker` is the identity whose fingerprint is in the worker's measured configuration; nonce, keyset and statement
    are those of `evidence`, artifact id and key id those of `wrapped`, and `lease_id` the one in the broker's answer.
    """
    grant = read_grant(envelope, broker)
    context = grant.context
    expected = {
        "nonce": (context.nonce, evidence.nonce),
        "keyset": (context.keyset, evidence.keyset.digest),
        "statement": (context.statement, evidence.statement.digest),
        "evidence": (context.evidence, evidence.digest),
        "key_id": (context.key_id, wrapped.key_id),
        "use": (context.use, use),
        "artifact": (context.artifact, artifact),
        "artifact_id": (context.artifact_id, wrapped.artifact_id),
        "lease_id": (context.lease_id, lease_id),
    }
    for member, (found, wanted) in expected.items():
        if found != wanted:
            raise GrantInvalid("this grant was made for another context", detail=member)
    return open_sealed(grant, context, release_key)


def open_sealed(grant: Grant, context: GrantContext, release_key: ReleaseKey) -> bytes:
    """The data key (32 bytes) in a grant that was made under exactly `context`. Raises `GrantInvalid`."""
    if grant.context != context:
        raise GrantInvalid("this grant was made for another context")
    try:
        data_key = release_key.open(grant.encapsulation, grant.ciphertext, codec.encode(context))
    except (Refused, Unreadable) as error:
        raise GrantInvalid("this grant does not open with this worker's key", detail=error.code) from None
    if len(data_key) != DATA_KEY_BYTES:
        raise GrantInvalid(f"a data key has {DATA_KEY_BYTES} bytes", detail="length")
    return data_key
