"""Receipts: what holds, and every way in which one does not."""

import dataclasses
import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as PeerEnvelope
from securesystemslib.signer import SSlibKey

from strongroom.crypto.signatures import generate_ed25519, raw_public, sign_envelope
from strongroom.errors import MalformedRecord, ReceiptInvalid, UsageError
from strongroom.receipts.receipt import (
    Issuer,
    ReceiptDocument,
    SealedReceipt,
    verify_document,
    verify_receipt,
    verify_signature_only,
)
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Collateral, Evidence, EvidenceBundle
from strongroom.records.receipt import PAYLOAD_TYPE, Receipt, commitment
from strongroom.records.release import LogProof
from strongroom.records.session import ReleaseProof
from strongroom.records.worker import Keyset, Statement

NOW = 1_800_000_000
KEY = generate_ed25519()
OTHER = generate_ed25519()
SALT = bytes(range(32))
REQUEST = hashlib.sha256(b"a canary prompt").digest()
RESPONSE = hashlib.sha256(b"a canary answer").digest()
KEYSET = Keyset(bytes(32), bytes(1216), raw_public(KEY), None, ("ehbp/1",), NOW + 600)
STATEMENT = Statement("inference", digest_bytes(b"image"), None, (digest_bytes(b"model"),), digest_bytes(b"settings"))
RECEIPT = Receipt(
    workload="inference",
    keyset=KEYSET.digest,
    statement=STATEMENT.digest,
    evidence=digest_bytes(b"evidence"),
    policy=digest_bytes(b"policy"),
    artifacts=(digest_bytes(b"model"),),
    request=commitment(SALT, "request", REQUEST),
    response=commitment(SALT, "response", RESPONSE),
    usage={"prompt_tokens": 5, "completion_tokens": 7},
    outcome="complete",
    lease_id="lease-1",
    chain=digest_bytes(b"token"),
    sequence=1,
    time=NOW,
)


def sealed(receipt: Receipt = RECEIPT, *, salt: bytes = SALT) -> SealedReceipt:
    return SealedReceipt(Issuer(KEY).issue(receipt), salt)


def check(
    found: SealedReceipt, *, keyset: Keyset = KEYSET, request: bytes = REQUEST, response: bytes = RESPONSE
) -> Receipt:
    return verify_receipt(found, keyset=keyset, request_sha256=request, response_sha256=response)


def test_a_receipt_holds_for_its_request_and_response():
    travelled = codec.decode(SealedReceipt, codec.encode(sealed()))
    assert check(travelled) == RECEIPT


@pytest.mark.parametrize("outcome", ["complete", "cut", "failed"])
def test_a_receipt_tells_how_it_ended(outcome: str):
    assert check(sealed(dataclasses.replace(RECEIPT, outcome=outcome))).outcome == outcome


def test_securesystemslib_accepts_the_envelope_of_a_receipt():
    envelope = Issuer(KEY).issue(RECEIPT)
    peer_key = SSlibKey.from_crypto(KEY.public_key(), keyid=envelope.signatures[0][0])
    assert PeerEnvelope.from_dict(envelope.__to_json__()).verify([peer_key], 1)
    assert envelope.payload_type == PAYLOAD_TYPE


@pytest.mark.parametrize("wrong", [hashlib.sha256(b"another").digest(), b"", REQUEST[:31], REQUEST + b"\0"])
def test_a_receipt_for_another_request_or_response_is_refused(wrong: bytes):
    with pytest.raises(ReceiptInvalid, match="another request"):
        check(sealed(), request=wrong)
    with pytest.raises(ReceiptInvalid, match="another response"):
        check(sealed(), response=wrong)


def test_request_and_response_cannot_be_exchanged():
    with pytest.raises(ReceiptInvalid):
        check(sealed(), request=RESPONSE, response=REQUEST)


@pytest.mark.parametrize("salt", [b"", bytes(32), SALT[:31], SALT + b"\0", SALT[::-1]])
def test_another_salt_does_not_open_a_receipt(salt: bytes):
    with pytest.raises(ReceiptInvalid):
        check(sealed(salt=salt))


def test_a_short_salt_is_refused_although_hmac_takes_it_for_the_same():
    """HMAC fills a key with zeros: a salt that ends in zeros has shorter twins."""
    salt = bytes(range(1, 32)) + b"\0"
    receipt = dataclasses.replace(
        RECEIPT, request=commitment(salt, "request", REQUEST), response=commitment(salt, "response", RESPONSE)
    )
    assert hmac.digest(salt, b"x", "sha256") == hmac.digest(salt[:31], b"x", "sha256")
    assert check(sealed(receipt, salt=salt)) == receipt
    with pytest.raises(ReceiptInvalid):
        check(sealed(receipt, salt=salt[:31]))


def cached(*, committed: bytes | None = SALT, told: bytes | None = SALT) -> SealedReceipt:
    """A receipt that commits to one namespace, with an answer that names another."""
    cache = None if committed is None else commitment(SALT, "cache", committed)
    return SealedReceipt(Issuer(KEY).issue(dataclasses.replace(RECEIPT, cache=cache)), SALT, told)


def test_a_receipt_says_whose_cache_was_used_and_the_answer_opens_it():
    assert check(codec.decode(SealedReceipt, codec.encode(cached()))).cache == commitment(SALT, "cache", SALT)
    assert check(cached(committed=None, told=None)).cache is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"told": None},
        {"committed": None},
        {"told": bytes(32)},
        {"committed": SALT[:31], "told": SALT[:31]},
        {"committed": b"", "told": b""},
    ],
    ids=str,
)
def test_a_receipt_that_does_not_say_whose_cache_was_used_is_refused(wrong: dict[str, bytes | None]):
    with pytest.raises(ReceiptInvalid) as refusal:
        check(cached(**wrong))
    assert refusal.value.detail == "cache"


def test_a_receipt_of_another_worker_is_refused():
    forged = SealedReceipt(Issuer(OTHER).issue(RECEIPT), SALT)
    with pytest.raises(ReceiptInvalid):
        check(forged)
    other = dataclasses.replace(KEYSET, receipt=raw_public(OTHER))
    with pytest.raises(ReceiptInvalid):
        check(sealed(), keyset=other)


def test_a_receipt_that_names_another_keyset_of_the_same_key_is_refused():
    with pytest.raises(ReceiptInvalid, match="another keyset"):
        check(sealed(), keyset=dataclasses.replace(KEYSET, channel=bytes(31) + b"\1"))


def test_a_receipt_from_after_the_end_of_its_keyset_is_refused():
    assert check(sealed(dataclasses.replace(RECEIPT, time=KEYSET.not_after)))
    with pytest.raises(ReceiptInvalid):
        check(sealed(dataclasses.replace(RECEIPT, time=KEYSET.not_after + 1)))


def test_an_unknown_outcome_is_neither_signed_nor_believed():
    strange = dataclasses.replace(RECEIPT, outcome="fine")
    with pytest.raises(UsageError):
        Issuer(KEY).issue(strange)
    with pytest.raises(ReceiptInvalid):
        check(SealedReceipt(sign_envelope(PAYLOAD_TYPE, codec.encode(strange), KEY), SALT))


def test_what_the_key_signed_for_another_purpose_is_no_receipt():
    with pytest.raises(ReceiptInvalid):
        check(SealedReceipt(sign_envelope("application/json", codec.encode(RECEIPT), KEY), SALT))


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"type":"strongroom/receipt/v2"}', codec.encode(RECEIPT) + b"{}"])
def test_a_signed_payload_that_is_no_receipt_is_refused(payload: bytes):
    with pytest.raises(MalformedRecord):
        check(SealedReceipt(sign_envelope(PAYLOAD_TYPE, payload, KEY), SALT))


def test_a_receipt_without_signatures_is_refused():
    with pytest.raises(ReceiptInvalid):
        check(SealedReceipt(Envelope(PAYLOAD_TYPE, codec.encode(RECEIPT), ()), SALT))


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_a_flipped_bit_in_what_was_signed_is_refused(position: int, bit: int):
    good = Issuer(KEY).issue(RECEIPT)
    payload = bytearray(good.payload)
    payload[position % len(payload)] ^= 1 << bit
    with pytest.raises(ReceiptInvalid):
        verify_signature_only(Envelope(PAYLOAD_TYPE, bytes(payload), good.signatures), KEYSET)


def test_an_auditor_checks_the_signature_without_salt_or_texts():
    assert verify_signature_only(Issuer(KEY).issue(RECEIPT), KEYSET) == RECEIPT
    with pytest.raises(ReceiptInvalid):
        verify_signature_only(Issuer(OTHER).issue(RECEIPT), KEYSET)


def test_a_receipt_says_nothing_that_a_guess_could_be_checked_against():
    text = Issuer(KEY).issue(RECEIPT).to_bytes()
    for known in (REQUEST, RESPONSE, SALT):
        for written in (known, known.hex().encode(), codec.b64encode(known).encode()):
            assert written not in text
            assert written not in codec.encode(RECEIPT)


def document(receipt: Receipt = RECEIPT) -> ReceiptDocument:
    evidence = Evidence("tdx", b"quote", b"", (), bytes(32), "session", KEYSET, STATEMENT)
    collateral = Collateral()
    proof = LogProof(0, b"leaf", (), "checkpoint")
    identity = sign_envelope("identity", b"{}", OTHER)
    release = ReleaseProof("token", proof, identity, "lease-1", digest_bytes(b"token"))
    return ReceiptDocument(sealed(receipt), REQUEST, RESPONSE, EvidenceBundle(evidence, collateral), release)


def test_a_document_holds_after_it_was_saved():
    saved = codec.encode(document())
    assert verify_document(codec.decode(ReceiptDocument, saved)) == RECEIPT


def test_a_document_with_another_answer_is_refused():
    with pytest.raises(ReceiptInvalid):
        verify_document(dataclasses.replace(document(), response_sha256=hashlib.sha256(b"edited").digest()))


def test_a_document_with_the_evidence_of_another_worker_is_refused():
    good = document()
    keyset = dataclasses.replace(KEYSET, receipt=raw_public(OTHER))
    evidence = dataclasses.replace(good.bundle.evidence, keyset=keyset)
    with pytest.raises(ReceiptInvalid):
        verify_document(dataclasses.replace(good, bundle=dataclasses.replace(good.bundle, evidence=evidence)))


def test_a_receipt_of_another_workload_than_the_evidence_is_refused():
    with pytest.raises(ReceiptInvalid, match="workload"):
        verify_document(document(dataclasses.replace(RECEIPT, statement=digest_bytes(b"other"))))


def test_a_receipt_of_another_lease_than_the_release_is_refused():
    with pytest.raises(ReceiptInvalid, match="lease"):
        verify_document(document(dataclasses.replace(RECEIPT, lease_id="lease-2")))
