"""The auditor's own reading of a decision's leaf agrees with what the broker writes, and with nothing else."""

import dataclasses

import pytest

from strongroom.audit.verify import verify
from strongroom.errors import MalformedRecord


@pytest.fixture
def decision(past):
    return verify(past.whole, past.trust).opened.decisions[0]


def test_the_brokers_own_leaves_are_read_as_they_were_meant(past, decision):
    assert decision.differing() == []
    assert decision.policies == (decision.kept.grants[0].context.policy,)
    assert decision.level == "simulated"
    assert decision.expires == decision.leaf.time + past.world.policy.lease_seconds


@pytest.mark.parametrize(
    "detail", ["", "level=simulated", "level=simulated lease_seconds=0", "level=simulated lease_seconds=1 x"]
)
def test_a_leaf_that_does_not_say_for_how_long_is_none_of_a_decision(decision, detail):
    made = dataclasses.replace(decision, leaf=dataclasses.replace(decision.leaf, detail=detail))
    with pytest.raises(MalformedRecord):
        made.differing()


@pytest.mark.parametrize("place", range(7))
def test_each_digest_of_a_leaf_counts(decision, place):
    digests = list(decision.leaf.digests)
    assert len(digests) == 7
    del digests[place]
    cut = dataclasses.replace(decision, leaf=dataclasses.replace(decision.leaf, digests=tuple(digests)))
    assert cut.differing()


@pytest.mark.parametrize(
    "members",
    [
        {"key_id": "x"},
        {"lease_id": "x"},
        {"nonce": bytes(32)},
        {"expires": 1},
        {"lease_seconds": 1},
        {"artifact_id": b"x"},
    ],
)
def test_each_member_of_a_grant_counts(decision, members):
    (grant,) = decision.kept.grants
    made = dataclasses.replace(grant, context=dataclasses.replace(grant.context, **members))
    kept = dataclasses.replace(decision.kept, grants=(made,))
    assert "grants" in dataclasses.replace(decision, kept=kept).differing()


def test_a_release_without_keys_is_none_and_a_renewal_may_have_further_ones(decision):
    renewal = dataclasses.replace(decision, leaf=dataclasses.replace(decision.leaf, event="renewal"))
    assert renewal.differing() == []
    bare = dataclasses.replace(decision, kept=dataclasses.replace(decision.kept, grants=()))
    assert "keys" in bare.differing()
