from dataclasses import replace

import pytest

from strongroom.appraisal.policies import from_toml, open_policy, sign_policy, to_toml
from strongroom.crypto.signatures import fingerprint, generate_p256
from strongroom.errors import MalformedRecord, SignatureInvalid
from strongroom.records.policy import Requirement, Signer


def test_a_policy_is_read_as_it_was_written(case):
    assert from_toml(to_toml(case.policy)) == case.policy
    odd = replace(case.policy, workload=Requirement(any='because "quotes", \\ and\nlines'))
    assert from_toml(to_toml(odd)) == odd
    builder = Signer(fingerprint(generate_p256().public_key()), 1)
    signed_elsewhere = replace(case.policy, references=(), builders=(builder,))
    assert from_toml(to_toml(signed_elsewhere)) == signed_elsewhere


def test_a_signed_policy_opens_only_under_its_owners_key(case):
    owner = generate_p256()
    envelope = sign_policy(case.policy, owner)
    assert open_policy(envelope, [owner.public_key()]) == case.policy
    with pytest.raises(SignatureInvalid):
        open_policy(envelope, [generate_p256().public_key()])
    with pytest.raises(SignatureInvalid):
        open_policy(
            replace(envelope, payload=envelope.payload.replace(b'"version":1', b'"version":2')), [owner.public_key()]
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('levels = ["simulated"]', "levels = []"),
        ('levels = ["simulated"]', 'levels = ["none"]'),
        ('levels = ["simulated"]', 'levels = ["anything"]'),
        ('workload = ["inference"]', ""),
        ('workload = ["inference"]', "workload = []"),
        ('workload = ["inference"]', 'workload = {any = ""}'),
        ('workload = ["inference"]', 'workload = "inference"'),
        ('debug = ["0"]', ""),
        ("version = 1", "version = 0"),
        ("lease_seconds = 300", "lease_seconds = 0"),
        ("lease_seconds = 300", "lease_seconds = 3.5"),
        ("version = 1", "version = 1\nsurprise = 1"),
        ("[[references]]", "[[other]]"),
    ],
)
def test_a_policy_with_a_gap_or_a_surprise_is_refused(case, old, new):
    text = to_toml(case.policy)
    assert old in text
    with pytest.raises(MalformedRecord) as refused:
        from_toml(text.replace(old, new))
    assert "strongroom policy new" in refused.value.remedy


@pytest.mark.parametrize("text", ["", "=", "a = [" * 2000, "\x00", "x" * 300_000])
def test_what_is_not_toml_is_refused(text):
    with pytest.raises(MalformedRecord):
        from_toml(text)
