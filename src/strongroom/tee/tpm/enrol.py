"""Enrolment: how a verifier learns that an AK lives in the TPM of a certified endorsement key, and notes it down.

Knows: the order of it, and the note. Does not know: how the two sides reach each other, or TPM commands (`collect`).

    (1) the endorsement key's certificate leads to an anchor, is not revoked, and has the form of one
    (2) the AK's public part has the attributes of a key that signs nothing but what its TPM says of itself
    (3) a credential that only that TPM opens, and only if it holds a key of the AK's name, which covers its attributes
    (4) the opened credential comes back: the note is signed with the verifier's own key

The note says of which class the root above the endorsement key is; it counts for no more than the class that the anchor of
the verifier's key admits. An endorsement key sits in every TPM that its maker ever sold: custody is the policy's matter.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from strongroom.crypto import signatures, x509
from strongroom.crypto.signatures import PublicKey, SigningKey
from strongroom.errors import MalformedEvidence, MalformedRecord, SignatureInvalid
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import TpmCollateral
from strongroom.records.policy.requirement import Requirement
from strongroom.records.tpm import TpmEnrolment
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.steps import Doubt
from strongroom.tee.tpm import keys, trust
from strongroom.tee.tpm.credential import Credential, make_credential
from strongroom.tee.tpm.parse import DIGEST_BYTES, Public
from strongroom.tee.tpm.trust import EK_HIERARCHY, AkTrust

ANCHOR_KIND = "tpm-enrolment"
PAYLOAD_TYPE = "application/vnd.strongroom.tpm-enrolment.v1+json"
MAX_BYTES = 8 * 1024
CHECKED = Requirement(one_of=("checked",))
_ORDER = (RootClass.SILICON, RootClass.CLOUD, RootClass.INSTALLATION)


@dataclass(frozen=True, slots=True)
class Endorsed:
    """An endorsement key whose certificate holds: its SHA-256, its root and the root's class."""

    public: Public
    fingerprint: Digest
    root: Digest
    root_class: RootClass


@dataclass(frozen=True, slots=True)
class Challenge:
    """An enrolment that waits for its TPM: send `credential`, keep the rest."""

    credential: Credential
    ak_name: str
    endorsed: Endorsed
    expected: bytes = field(repr=False)


def enrolment_anchor(verifier: PublicKey, root_class: RootClass) -> TrustAnchor:
    """The anchor for notes signed by `verifier`, which then count for at most `root_class`."""
    return TrustAnchor(ANCHOR_KIND, signatures.fingerprint(verifier), root_class, "enrolment by a verifier")


def check_endorsement(
    ek: Public,
    collateral: TpmCollateral,
    anchors: Sequence[TrustAnchor],
    now: int,
    *,
    revocation: Requirement = CHECKED,
) -> Endorsed:
    """Step (1). `revocation` may admit, with its reason, a chain of which no revocation list was given.

    Raises `SignatureInvalid` with the reason, or `MalformedEvidence`.
    """
    chain = trust.load(collateral)
    try:
        anchor = trust.anchor_of(chain, anchors)
        trust.check_path(chain, anchor, now, EK_HIERARCHY)
        if collateral.crls or revocation.any is None:
            trust.check_lists(chain, collateral.crls, now)
        fingerprint = trust.check_ek_certificate(chain[0], ek)
    except Doubt as doubt:
        raise SignatureInvalid(f"the endorsement key: {doubt}") from None
    return Endorsed(ek, fingerprint, x509.certificate_digest(chain[-1]), anchor.root_class)


def challenge(endorsed: Endorsed, ak: Public, secret: bytes | None = None) -> Challenge:
    """Steps (2) and (3); `secret` (32 bytes that nobody else knows) is random where it is None.

    Raises `SignatureInvalid` for a key that is no attestation key, `UsageError` for the EK.
    """
    try:
        keys.check_attributes(ak, None)
        keys.check_scheme(ak)
    except Doubt as doubt:
        raise SignatureInvalid(f"the attestation key: {doubt}") from None
    secret = os.urandom(DIGEST_BYTES[endorsed.public.name_hash or "sha256"]) if secret is None else secret
    return Challenge(make_credential(endorsed.public, ak.name, secret), ak.name, endorsed, secret)


def finish(waiting: Challenge, answer: bytes, key: SigningKey, *, now: int, life: int) -> Envelope:
    """Step (4): the signed note, good for `life` seconds from `now`. Raises `SignatureInvalid` for a wrong answer."""
    if not hmac.compare_digest(waiting.expected, answer):
        raise SignatureInvalid("the credential came back wrong: that TPM does not hold this attestation key")
    found = waiting.endorsed
    return sign_note(
        waiting.ak_name,
        endorsement=found.fingerprint,
        root=found.root,
        root_class=found.root_class,
        key=key,
        now=now,
        life=life,
    )


def sign_note(
    ak_name: str, *, endorsement: Digest, root: Digest, root_class: RootClass, key: SigningKey, now: int, life: int
) -> Envelope:
    """The note itself, for who keeps what was checked elsewhere than in a `Challenge`."""
    note = TpmEnrolment(
        ak_name=ak_name,
        endorsement=endorsement,
        root=root,
        root_class=root_class,
        verifier=signatures.public_to_der(key.public_key()),
        time=now,
        not_after=now + life,
    )
    return signatures.sign_envelope(PAYLOAD_TYPE, codec.encode(note), key)


def open_enrolment(data: bytes, anchors: Sequence[TrustAnchor], now: int) -> AkTrust:
    """The trust in a signed note that holds at `now`, under an anchor of kind `tpm-enrolment`.

    Raises `MalformedEvidence` or `SignatureInvalid`.
    """
    if len(data) > MAX_BYTES:
        raise MalformedEvidence(f"an enrolment of {len(data)} bytes exceeds the limit of {MAX_BYTES}")
    try:
        envelope = Envelope.from_bytes(data)
        note = codec.decode(TpmEnrolment, envelope.payload)
        verifier = signatures.public_from_der(note.verifier)
    except MalformedRecord as error:
        raise MalformedEvidence(f"this is no enrolment: {error.message}") from None
    fingerprint = signatures.fingerprint(verifier)
    found = [anchor for anchor in anchors if (anchor.kind, anchor.fingerprint) == (ANCHOR_KIND, fingerprint)]
    if not found:
        raise SignatureInvalid("no anchor admits enrolments of this verifier")
    signatures.open_envelope(envelope, PAYLOAD_TYPE, [verifier])
    if not note.time <= now <= note.not_after:
        raise SignatureInvalid(f"the enrolment holds from {note.time} to {note.not_after}")
    return AkTrust(
        ak_name=note.ak_name,
        root_class=max(note.root_class, found[0].root_class, key=_ORDER.index),
        source="enrolment",
        endorsement=note.endorsement,
        facts={"endorsement_root": note.root},
    )
