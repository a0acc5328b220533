"""The proof that a broker destroyed a key, offline: its signature, and the leaf of its log that commits to what it signed.

Knows: how a destruction is signed, which leaf it has, and how a document is checked. Does not know: how keys are kept.
Safety: the proof shows that this broker says so, irrevocably and in public. It cannot show that nobody has a copy: not of an
imported key, nor of a backup together with the broker's root key.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto.signatures import ed25519_public, open_envelope, sign_envelope
from strongroom.errors import LogInvalid
from strongroom.receipts.cosignature import Quorum
from strongroom.receipts.identity import open_identity
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.destruction import DestructionDocument, KeyDestruction
from strongroom.records.digest import Digest, digest_record
from strongroom.records.envelope import Envelope
from strongroom.records.release import Leaf

PAYLOAD_TYPE = "application/vnd.strongroom.key-destruction.v1+json"
EVENT = "destruction"


def sign_destruction(destruction: KeyDestruction, signing: Ed25519PrivateKey) -> Envelope:
    """The broker's word, in its envelope."""
    return sign_envelope(PAYLOAD_TYPE, codec.encode(destruction), signing)


def leaf_of(destruction: KeyDestruction) -> Leaf:
    """The leaf that a destruction has in the log; it commits to all that was signed, and hides the names (`hidden`)."""
    digests = (destruction.who, digest_record(destruction))
    detail = f"versions={len(destruction.versions)}"
    return Leaf(EVENT, destruction.time, destruction.key_id, digests, detail)


def check_destruction(document: DestructionDocument, broker: Digest, witnesses: Quorum | None = None) -> KeyDestruction:
    """What `document` proves that the broker of this fingerprint destroyed.

    Where `witnesses` are named, enough of them must have signed the log. Raises `SignatureInvalid`, `LogInvalid` or
    `MalformedRecord`.
    """
    identity = open_identity(document.broker, broker)
    payload = open_envelope(document.destruction, PAYLOAD_TYPE, [ed25519_public(identity.signing)])
    destruction = codec.decode(KeyDestruction, payload)
    leaf = verify_proof(document.proof, origin=identity.log_origin, log_key=identity.log, witnesses=witnesses)
    wanted = leaf_of(destruction)
    # whose it was and who did it is hidden in the leaf, and in the statement, whose digest the leaf has in the clear
    logged, said = ((one.event, one.time, one.digests[1:], one.detail) for one in (leaf, wanted))
    if logged != said or destruction.broker != broker or not destruction.versions:
        raise LogInvalid("the broker logged something else than the destruction of this key")
    return destruction
