import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_ed25519, sign_envelope
from strongroom.errors import GrantInvalid
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Evidence
from strongroom.records.release import Edition, Grant, GrantContext, Use, WrappedKey
from strongroom.records.worker import Keyset, Statement
from strongroom.release.grants import PAYLOAD_TYPE, open_grant, seal_grant, sign_grant
from strongroom.release.state import BrokerKeys

BROKER = BrokerKeys.generate()
RELEASE = ReleaseKey.generate()
KEYSET = Keyset(b"c" * 32, RELEASE.public, b"r" * 32, None, ("ehbp/1",), 2_000_000_000)
ARTIFACT = digest_bytes(b"artifact")
STATEMENT = Statement("inference", digest_bytes(b"image"), None, (ARTIFACT,), digest_bytes(b"configuration"))
EVIDENCE = Evidence("tdx", b"quote", b"", (), b"n" * 32, "release", KEYSET, STATEMENT)
WRAPPED = WrappedKey("key", 1, BROKER.identity.fingerprint, Edition.first(b"artifact-id"), b"wrapped")
CONTEXT = GrantContext(
    nonce=EVIDENCE.nonce,
    keyset=KEYSET.digest,
    statement=STATEMENT.digest,
    evidence=EVIDENCE.digest,
    policy=digest_bytes(b"policy"),
    key_id="key",
    use=Use.OPEN,
    artifact=ARTIFACT,
    artifact_id=b"artifact-id",
    lease_id="lease",
    lease_seconds=300,
    expires=1_800_000_300,
)
DATA_KEY = bytes(range(32))


def given_grant(context=CONTEXT, data_key=DATA_KEY, signing=BROKER.signing, recipient=RELEASE.public):
    return sign_grant(seal_grant(data_key, context, recipient), signing)


def opened(envelope, **changes):
    members = {
        "broker": BROKER.identity,
        "release_key": RELEASE,
        "evidence": EVIDENCE,
        "artifact": ARTIFACT,
        "wrapped": WRAPPED,
        "lease_id": "lease",
        **changes,
    }
    return open_grant(envelope, **members)


def test_a_grant_opens_in_its_own_context():
    assert opened(given_grant()) == DATA_KEY


OTHER = digest_bytes(b"other")
CHANGES = {
    "nonce": b"m" * 32,
    "keyset": OTHER,
    "statement": OTHER,
    "evidence": OTHER,
    "key_id": "another",
    "use": Use.SEAL,
    "artifact": OTHER,
    "artifact_id": b"another",
    "lease_id": "another",
}


@pytest.mark.parametrize("member", CHANGES)
def test_a_grant_that_the_broker_made_for_another_context_is_refused(member):
    context = dataclasses.replace(CONTEXT, **{member: CHANGES[member]})
    with pytest.raises(GrantInvalid) as refused:
        opened(given_grant(context))
    assert refused.value.detail == member


def test_every_member_of_the_context_is_either_checked_or_told():
    told = {"policy", "lease_seconds", "expires"}  # the broker's own to say; still bound by seal and signature
    assert {field.name for field in dataclasses.fields(GrantContext)} == set(CHANGES) | told


@pytest.mark.parametrize(("member", "value"), [("policy", OTHER), ("lease_seconds", 999), ("expires", 9)])
def test_a_context_changed_after_sealing_does_not_open(member, value):
    grant = seal_grant(DATA_KEY, CONTEXT, RELEASE.public)
    changed = dataclasses.replace(grant, context=dataclasses.replace(CONTEXT, **{member: value}))
    with pytest.raises(GrantInvalid, match="does not open"):
        opened(sign_grant(changed, BROKER.signing))


def test_a_grant_that_another_broker_signed_is_refused():
    with pytest.raises(GrantInvalid, match="measured broker"):
        opened(given_grant(signing=generate_ed25519()))


def test_a_grant_for_another_worker_is_refused():
    with pytest.raises(GrantInvalid, match="does not open"):
        opened(given_grant(recipient=ReleaseKey.generate().public))


def test_another_kind_of_envelope_is_not_a_grant():
    payload = codec.encode(seal_grant(DATA_KEY, CONTEXT, RELEASE.public))
    with pytest.raises(GrantInvalid):
        opened(sign_envelope("application/vnd.strongroom.receipt.v1+json", payload, BROKER.signing))
    with pytest.raises(GrantInvalid):
        opened(sign_envelope(PAYLOAD_TYPE, b"{}", BROKER.signing))


@pytest.mark.parametrize("data_key", [b"", b"k" * 31, b"k" * 33])
def test_a_data_key_of_another_length_is_refused(data_key):
    with pytest.raises(GrantInvalid, match="32 bytes"):
        opened(given_grant(data_key=data_key))


GOOD = given_grant()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(GOOD.payload) - 1), st.integers(1, 255))
def test_no_byte_of_a_grant_can_be_changed(position, flip):
    payload = bytearray(GOOD.payload)
    payload[position] ^= flip
    with pytest.raises(GrantInvalid):
        opened(Envelope(GOOD.payload_type, bytes(payload), GOOD.signatures))


def test_a_grant_says_nothing_of_the_key_in_clear():
    grant = codec.decode(Grant, GOOD.payload)
    assert DATA_KEY not in GOOD.payload + grant.ciphertext + grant.encapsulation
