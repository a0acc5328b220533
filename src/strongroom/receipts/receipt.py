"""Receipts: signed inside the TEE, verified by the user with nothing but the keyset that evidence vouches for.

Knows: signature, keyset and commitments. Does not know: whether the evidence behind the keyset is good (`appraisal`),
or whether a broker released its keys (`proof`); whoever verifies a document judges both, above.
A receipt alone tells nothing of request and response: their hashes are committed under a salt that only the sealed
answer carries. Not covered: times in receipts are the worker's own word.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto.signatures import ed25519_public, open_envelope, sign_envelope
from strongroom.errors import ReceiptInvalid, SignatureInvalid, UsageError
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.receipt import PAYLOAD_TYPE, Receipt, commitment
from strongroom.records.session import ReleaseProof
from strongroom.records.worker import Keyset

SALT_BYTES = 32
NAMESPACE_BYTES = 32
OUTCOMES = frozenset({"complete", "cut", "failed"})


@dataclass(frozen=True, slots=True)
class SealedReceipt:
    """What travels inside the sealed answer: the signed receipt, and the salt (32 bytes) that opens its commitments.

    `namespace` (32 bytes) names the part of the prefix cache that the answer could draw on: the same for all who share it while
    a worker lives, and nothing that anybody could ask with. None where no cache was used.
    """

    TYPE: ClassVar[str] = "strongroom/sealed-receipt/v1"
    envelope: Envelope
    salt: bytes
    namespace: bytes | None = None


@dataclass(frozen=True, slots=True)
class ReceiptDocument:
    """What a user keeps to check an answer offline: of request and response only the SHA-256 (32 bytes each).

    `bundle` is what the worker proved to this user, under the user's nonce; `release` the broker's verdict on that
    worker and the proof that it is logged.
    """

    TYPE: ClassVar[str] = "strongroom/receipt-document/v1"
    receipt: SealedReceipt
    request_sha256: bytes
    response_sha256: bytes
    bundle: EvidenceBundle
    release: ReleaseProof


class Issuer:
    """Signs receipts with the receipt key of a worker's keyset."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def issue(self, receipt: Receipt) -> Envelope:
        """`receipt` in a signed envelope. Raises `UsageError` where nobody could ever verify it."""
        if receipt.outcome not in OUTCOMES:
            raise UsageError(f"a receipt's outcome is one of {', '.join(sorted(OUTCOMES))}")
        return sign_envelope(PAYLOAD_TYPE, codec.encode(receipt), self._key)


def verify_signature_only(envelope: Envelope, keyset: Keyset) -> Receipt:
    """The receipt in `envelope`, once the receipt key of `keyset` signed it and it names that keyset.

    Raises `ReceiptInvalid`; `MalformedRecord` where what was signed is not a receipt.
    """
    try:
        payload = open_envelope(envelope, PAYLOAD_TYPE, [ed25519_public(keyset.receipt)])
    except SignatureInvalid as error:
        raise ReceiptInvalid("this receipt is not signed by the worker's receipt key", detail=error.detail) from None
    receipt = codec.decode(Receipt, payload)
    if receipt.keyset != keyset.digest:
        raise ReceiptInvalid("this receipt names another keyset", detail="keyset")
    if receipt.time > keyset.not_after:
        raise ReceiptInvalid("this receipt was signed after its keyset had ended", detail="not_after")
    if receipt.outcome not in OUTCOMES:
        raise ReceiptInvalid("this receipt has an unknown outcome", detail="outcome")
    return receipt


def verify_receipt(sealed: SealedReceipt, *, keyset: Keyset, request_sha256: bytes, response_sha256: bytes) -> Receipt:
    """The receipt for exactly this request and response, signed under `keyset`. The caller looks at its outcome.

    Raises `ReceiptInvalid` where signature, keyset or commitments do not hold; `MalformedRecord` where it is not a
    receipt.
    """
    receipt = verify_signature_only(sealed.envelope, keyset)
    if len(sealed.salt) != SALT_BYTES:  # HMAC takes any key, and shorter ones with zeros behind are the same
        raise ReceiptInvalid(f"the salt of a receipt has {SALT_BYTES} bytes, not {len(sealed.salt)}", detail="salt")
    _open_commitment(receipt.request, sealed.salt, "request", request_sha256)
    _open_commitment(receipt.response, sealed.salt, "response", response_sha256)
    _check_cache(receipt.cache, sealed)
    return receipt


def verify_document(document: ReceiptDocument) -> Receipt:
    """The receipt in `document`, once it holds for its request and response under the keyset of its evidence.

    What stays for the caller: appraise `document.bundle`, and check `document.release` against it and a pinned broker.
    Raises `ReceiptInvalid`, `MalformedRecord`.
    """
    evidence = document.bundle.evidence
    receipt = verify_receipt(
        document.receipt,
        keyset=evidence.keyset,
        request_sha256=document.request_sha256,
        response_sha256=document.response_sha256,
    )
    if receipt.statement != evidence.statement.digest:
        raise ReceiptInvalid("this receipt is of another workload than the evidence", detail="statement")
    if receipt.lease_id != document.release.lease_id:
        raise ReceiptInvalid("this receipt is of another lease than the release", detail="lease")
    return receipt


def _check_cache(found: bytes | None, sealed: SealedReceipt) -> None:
    """The receipt says that a cache was used exactly if the answer names whose."""
    if found is None and sealed.namespace is None:
        return
    if found is None or sealed.namespace is None or len(sealed.namespace) != NAMESPACE_BYTES:
        raise ReceiptInvalid("this receipt does not say whose cache was used", detail="cache")
    _open_commitment(found, sealed.salt, "cache", sealed.namespace)


def _open_commitment(found: bytes, salt: bytes, label: str, sha256: bytes) -> None:
    if not hmac.compare_digest(found, commitment(salt, label, sha256)):
        raise ReceiptInvalid(f"this receipt is for another {label}", detail=label)
