"""An audit's verdict: what holds passes, and each thing changed, missing or of somebody else is refused and named."""

import dataclasses
import json

import pytest

from strongroom.appraisal.policies import open_policy, sign_policy
from strongroom.audit import bundle as files
from strongroom.audit.bundle import make, read, write
from strongroom.audit.verify import verify
from strongroom.crypto import merkle
from strongroom.crypto.signatures import generate_ed25519, generate_p256, raw_public
from strongroom.receipts.cosignature import Quorum, Witness, cosign
from strongroom.receipts.note import Checkpoint, sign_checkpoint
from strongroom.records import codec
from strongroom.records.audit import Cosigned, KeptDecision, LoggedLeaf
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Collateral
from strongroom.records.release import Leaf
from strongroom.records.verdict import Status


def remade(bundle, parts):
    """The bundle with other parts, under a manifest made for them: what somebody does who knows the format."""
    return read(write(make({k: v for k, v in parts.items() if v is not None}, broker=bundle.manifest.broker,
                           scope=bundle.manifest.scope)))  # fmt: skip


def changed(bundle, name, data):
    return remade(bundle, {**bundle.parts, name: data})


def with_decision(bundle, name, **members):
    kept = dataclasses.replace(codec.decode(KeptDecision, bundle.parts[name]), **members)
    return changed(bundle, name, codec.encode(kept))


def problems(audit):
    assert not audit.accepted
    return {finding.id: finding for finding in audit.open_points}


def first(bundle, folder, number=0):
    return list(bundle.folder(folder))[number]


def leaf_of(bundle, event, number=0):
    found = [
        name
        for name, data in bundle.folder(files.LEAVES).items()
        if codec.decode(Leaf, codec.decode(LoggedLeaf, data).leaf).event == event
    ]
    return found[number]


def test_all_that_happened_holds_and_every_check_is_numbered(past):
    audit = verify(past.whole, past.trust)
    assert audit.accepted
    assert [finding.number for finding in audit.findings] == list(range(1, 18))
    assert {f.id for f in audit.findings if f.status is not Status.PASS} == {"audit.signature", "audit.witnesses"}
    assert len(audit.opened.decisions) == 3
    assert len(audit.receipts) == 3


@pytest.mark.parametrize("which", ["one", "other"])
def test_a_bundle_of_one_lease_holds_and_says_nothing_of_others(past, which):
    lease = getattr(past, which).lease
    audit = verify(past.world.bundle(lease=lease), past.trust)
    assert audit.accepted
    assert {decision.leaf.subject for decision in audit.opened.decisions} == {lease}
    revoked = [leaf for leaf in audit.opened.leaves.values() if leaf.event == "revocation"]
    assert len(revoked) == (which == "other")


def test_a_bundle_of_a_policy_holds_all_its_leases_under_both_its_versions(past):
    audit = verify(past.world.bundle(policy="models"), past.trust)
    assert audit.accepted
    assert {decision.leaf.subject for decision in audit.opened.decisions} == {past.one.lease, past.other.lease}
    assert sorted(policy.version for policy in audit.opened.policies.values()) == [1, 2]


def test_a_span_holds_with_its_neighbours_and_a_leaf_left_out_is_named(past):
    bundle = past.world.bundle(since=past.before + 10, until=past.before + 10)
    assert verify(bundle, past.trust).accepted
    leaves = list(bundle.folder(files.LEAVES))
    for name in leaves:
        cut = {k: v for k, v in bundle.parts.items() if k not in {name, name.replace(files.LEAVES, files.DECISIONS)}}
        found = problems(verify(remade(bundle, cut), past.trust))
        assert found["audit.scope"].status is Status.FAIL
        assert f"leaf {int(name[-21:-5])}" in found["audit.scope"].detail


def test_a_signature_of_the_bundle_counts_only_if_it_is_asked_for(past):
    exporter = generate_p256()
    signed = read(write(past.whole, exporter))
    asked = dataclasses.replace(past.trust, exporter=exporter.public_key())
    assert verify(signed, past.trust).accepted
    assert verify(signed, asked).accepted
    assert "audit.signature" in problems(verify(past.whole, asked))


def test_a_simulated_tee_is_accepted_only_by_who_says_so(past):
    found = problems(verify(past.whole, dataclasses.replace(past.trust, accept_simulated=False)))
    assert found.keys() == {"audit.levels"}


def test_without_owners_or_anchors_nothing_holds(past):
    assert "audit.policies" in problems(verify(past.whole, dataclasses.replace(past.trust, owners=())))
    assert "audit.evidence" in problems(verify(past.whole, dataclasses.replace(past.trust, anchors=())))
    stranger = dataclasses.replace(past.trust, owners=(generate_p256().public_key(),))
    assert "audit.policies" in problems(verify(past.whole, stranger))


def test_another_broker_than_the_one_named_is_refused(past, elsewhere):
    found = problems(verify(elsewhere.whole, past.trust))
    assert found["audit.broker"].status is Status.FAIL
    assert found["audit.leaves"].status is Status.NOT_RUN


def test_a_bundle_that_only_claims_to_be_of_the_broker_is_refused(past, elsewhere):
    posing = make(elsewhere.whole.parts, broker=past.trust.broker, scope=elsewhere.whole.manifest.scope)
    assert problems(verify(posing, past.trust))["audit.broker"].status is Status.FAIL
    mixed = make(
        {**elsewhere.whole.parts, files.BROKER: past.whole.parts[files.BROKER]},
        broker=past.trust.broker,
        scope=elsewhere.whole.manifest.scope,
    )
    assert problems(verify(mixed, past.trust))["audit.checkpoint"].status is Status.FAIL


def test_every_missing_part_is_noticed(past):
    for name in past.whole.parts:
        audit = verify(changed(past.whole, name, None), past.trust)
        assert not audit.accepted, name
        assert any(name in finding.detail or name.startswith(files.LEAVES) or files.POLICIES in name
                   or files.RECEIPTS in name for finding in audit.open_points), name  # fmt: skip


def test_every_part_of_another_bundle_is_refused_and_named(past, elsewhere):
    for name, data in elsewhere.whole.parts.items():
        if data == past.whole.parts.get(name):
            continue
        audit = verify(changed(past.whole, name, data), past.trust)
        assert not audit.accepted, name
        assert any(name in finding.detail for finding in audit.open_points), name


def test_a_changed_token_is_refused_and_named(past):
    name = first(past.whole, files.DECISIONS)
    token = codec.decode(KeptDecision, past.whole.parts[name]).token
    other = codec.decode(KeptDecision, past.whole.parts[first(past.whole, files.DECISIONS, 1)]).token
    for made in (token[:-1] + ("A" if token[-1] != "A" else "B"), other, "", "é"):
        found = problems(verify(with_decision(past.whole, name, token=made), past.trust))
        assert name in found["audit.decisions"].detail


def test_changed_evidence_is_refused_and_named(past):
    name = first(past.whole, files.DECISIONS)
    evidence = codec.decode(KeptDecision, past.whole.parts[name]).evidence
    for made in (
        dataclasses.replace(evidence, quote=bytes(len(evidence.quote))),
        dataclasses.replace(evidence, log=b"x"),
    ):
        found = problems(verify(with_decision(past.whole, name, evidence=made), past.trust))
        assert "evidence" in found["audit.decisions"].detail
        assert name in found["audit.decisions"].detail


def test_a_key_that_was_not_released_so_is_refused(past):
    name = first(past.whole, files.DECISIONS)
    (grant,) = codec.decode(KeptDecision, past.whole.parts[name]).grants
    another = dataclasses.replace(grant, context=dataclasses.replace(grant.context, key_id="another"))
    for grants in ((another,), (), (grant, grant)):
        found = problems(verify(with_decision(past.whole, name, grants=grants), past.trust))
        assert name in found["audit.decisions"].detail


def test_a_changed_leaf_is_refused_and_named(past):
    for name, data in past.whole.folder(files.LEAVES).items():
        logged = codec.decode(LoggedLeaf, data)
        leaf = codec.decode(Leaf, logged.leaf)
        made = codec.encode(
            dataclasses.replace(logged, leaf=codec.encode(dataclasses.replace(leaf, time=leaf.time + 1)))
        )
        assert name in problems(verify(changed(past.whole, name, made), past.trust))["audit.leaves"].detail


def test_a_leaf_under_another_number_is_refused(past):
    name, other = first(past.whole, files.LEAVES), first(past.whole, files.LEAVES, 1)
    found = problems(verify(changed(past.whole, name, past.whole.parts[other]), past.trust))
    assert name in found["audit.leaves"].detail


def test_collateral_that_shows_something_else_is_refused_and_named(past):
    name = first(past.whole, files.COLLATERAL)
    collateral = codec.decode(Collateral, past.whole.parts[name])
    other = dataclasses.replace(collateral, intel=dataclasses.replace(collateral.intel, tcb_info_signature=bytes(64)))
    assert name in problems(verify(changed(past.whole, name, codec.encode(other)), past.trust))["audit.evidence"].detail
    # even under its own name, with every decision pointing to it
    parts = dict(past.whole.parts) | dict.fromkeys(past.whole.folder(files.COLLATERAL))
    parts[files.addressed(files.COLLATERAL, other.digest)] = codec.encode(other)
    for decision, data in past.whole.folder(files.DECISIONS).items():
        kept = codec.decode(KeptDecision, data)
        parts[decision] = codec.encode(dataclasses.replace(kept, collateral=other.digest))
    found = problems(verify(remade(past.whole, parts), past.trust))
    assert found.keys() == {"audit.evidence"}
    assert "tdx.tcb_info" in found["audit.evidence"].detail


def test_a_changed_policy_is_refused_and_named_whoever_signs_it(past):
    for name, data in past.whole.folder(files.POLICIES).items():
        policy = open_policy(Envelope.from_bytes(data), past.trust.owners)
        weaker = dataclasses.replace(policy, lease_seconds=86_400)
        for key in (past.world.owner, generate_p256()):
            made = sign_policy(weaker, key).to_bytes()
            assert name in problems(verify(changed(past.whole, name, made), past.trust))["audit.policies"].detail
            moved = {**past.whole.parts, name: None, files.addressed(files.POLICIES, digest_bytes(made)): made}
            found = problems(verify(remade(past.whole, moved), past.trust))
            assert policy.digest in found["audit.policies"].detail


def test_a_key_that_counts_for_one_tenant_vouches_for_no_others_policies(past):
    owner = past.trust.owners
    other = dataclasses.replace(past.trust, owners=(), tenants={"acme": owner, "models": owner})
    assert "audit.policies" in problems(verify(past.whole, other))
    beside = dataclasses.replace(past.trust, tenants={"acme": (generate_p256().public_key(),)})
    assert verify(past.whole, beside).accepted


def test_a_policy_of_a_tenant_counts_under_its_own_owners_key(past):
    """And a key of the house that was released under it is named: a broker must not do that."""
    name, data = next(iter(past.whole.folder(files.POLICIES).items()))
    policy = open_policy(Envelope.from_bytes(data), past.trust.owners)
    acme = generate_p256()
    moved = dataclasses.replace(policy, id="acme/models")
    made = sign_policy(moved, acme).to_bytes()
    place = files.addressed(files.POLICIES, digest_bytes(made))
    bundle = remade(past.whole, {**past.whole.parts, name: None, place: made})
    for tenants, stranger in (({"acme": (acme.public_key(),)}, False), ({"other": (acme.public_key(),)}, True)):
        found = problems(verify(bundle, dataclasses.replace(past.trust, tenants=tenants)))["audit.policies"].detail
        assert (place in found) is stranger


def test_a_key_released_under_another_tenants_policy_is_named(past, monkeypatch):
    from strongroom.audit import opened

    monkeypatch.setattr(opened, "tenant_of", lambda name: "acme" if name == "models" else "")
    trust = dataclasses.replace(past.trust, tenants={"acme": past.trust.owners})
    assert "another tenant's policy" in problems(verify(past.whole, trust))["audit.policies"].detail


def test_a_renewal_left_out_breaks_the_chain_of_what_follows(past):
    bundle = past.world.bundle(lease=past.one.lease)
    release = leaf_of(bundle, "release")
    parts = {**bundle.parts, release: None, release.replace(files.LEAVES, files.DECISIONS): None}
    found = problems(verify(remade(bundle, parts), past.trust))
    assert found["audit.chain"].status is Status.NOT_RUN


def test_a_changed_receipt_is_refused_and_a_missing_one_leaves_the_others_unproved(past):
    names = list(past.whole.folder(files.RECEIPTS))
    envelope = json.loads(past.whole.parts[names[0]])
    envelope["signatures"][0]["sig"] = "AAAA" + envelope["signatures"][0]["sig"][4:]
    found = problems(verify(changed(past.whole, names[0], json.dumps(envelope).encode()), past.trust))
    assert names[0] in found["audit.receipts"].detail
    found = problems(verify(changed(past.whole, names[0], None), past.trust))
    assert found.keys() == {"audit.roots"}
    assert found["audit.roots"].status is Status.NOT_RUN
    assert names[1] in found["audit.roots"].detail


def test_a_changed_receipt_under_its_own_name_is_refused_too(past):
    name = first(past.whole, files.RECEIPTS)
    envelope = Envelope.from_bytes(past.whole.parts[name])
    made = dataclasses.replace(envelope, payload=envelope.payload.replace(b'"tokens":3', b'"tokens":4')).to_bytes()
    moved = files.addressed(files.RECEIPTS, digest_bytes(made))
    found = problems(verify(remade(past.whole, {**past.whole.parts, name: None, moved: made}), past.trust))
    assert moved in found["audit.receipts"].detail


def test_an_empty_bundle_shows_nothing(past):
    empty = make({}, broker=past.trust.broker, scope=past.whole.manifest.scope)
    found = problems(verify(empty, past.trust))
    assert {"audit.broker", "audit.checkpoint", "audit.leaves", "audit.scope"} <= found.keys()


def test_a_bundle_of_a_lease_that_is_not_the_one_it_names_is_refused(past):
    mine = past.world.bundle(lease=past.one.lease)
    scope = dataclasses.replace(mine.manifest.scope, lease=past.other.lease)
    assert "audit.scope" in problems(verify(make(mine.parts, broker=past.trust.broker, scope=scope), past.trust))
    scope = dataclasses.replace(mine.manifest.scope, lease=None, policy="another")
    assert "audit.scope" in problems(verify(make(mine.parts, broker=past.trust.broker, scope=scope), past.trust))


def erased(bundle, member="digests[0]"):
    """`bundle` as it is once nothing opens `member` any more."""
    parts = dict(bundle.parts)
    for name, data in bundle.folder(files.LEAVES).items():
        logged = codec.decode(LoggedLeaf, data)
        kept = tuple(opening for opening in logged.openings if opening.member != member)
        parts[name] = codec.encode(dataclasses.replace(logged, openings=kept))
    return files.make(parts, broker=bundle.manifest.broker, scope=bundle.manifest.scope)


def found(audit, identifier):
    return next(finding for finding in audit.findings if finding.id == identifier)


def test_what_was_erased_is_said_and_fails_nothing(past):
    before, after = (verify(bundle, past.trust) for bundle in (past.whole, erased(past.whole)))
    assert before.accepted
    assert after.accepted
    opened, closed = (found(audit, "audit.openings") for audit in (before, after))
    assert opened.items == closed.items
    assert "erased" not in opened.detail
    assert "but for 2 that were erased or left out" in closed.detail
    assert {leaf.subject for leaf in after.opened.leaves.values()} >= {"models"}


def test_an_opening_of_another_leaf_fails_the_bundle(past):
    parts = dict(past.whole.parts)
    one, other = [name for name in past.whole.folder(files.LEAVES) if codec.decode(LoggedLeaf, parts[name]).openings][
        :2
    ]
    swapped = codec.decode(LoggedLeaf, parts[other]).openings
    parts[one] = codec.encode(dataclasses.replace(codec.decode(LoggedLeaf, parts[one]), openings=swapped))
    audit = verify(files.make(parts, broker=past.trust.broker, scope=past.whole.manifest.scope), past.trust)
    assert not audit.accepted
    assert found(audit, "audit.openings").status is Status.FAIL


SIGNERS = [generate_ed25519() for _ in range(3)]
WITNESSES = [Witness(f"w{number}.example", raw_public(key)) for number, key in enumerate(SIGNERS)]


def with_state(past, *, size=None, signers=(0, 1), root=None):
    """The whole bundle with a state that some witnesses signed, as the log had it at `size`."""
    log, whole = past.world.broker.log, len(past.whole.folder(files.LEAVES))
    size = whole if size is None else size
    leaves = [codec.decode(LoggedLeaf, data).leaf for data in past.whole.folder(files.LEAVES).values()]
    state = Checkpoint(
        past.world.identity.log_origin, size, root or merkle.root([merkle.leaf_hash(leaf) for leaf in leaves[:size]])
    )
    text = sign_checkpoint(state, state.origin, log._key)
    lines = [cosign(state, WITNESSES[number].name, SIGNERS[number], time=past.world.now) for number in signers]
    cosigned = Cosigned(text + "".join(lines), log.consistency_path(size, whole))
    parts = {**past.whole.parts, files.COSIGNED: codec.encode(cosigned)}
    return files.make(parts, broker=past.trust.broker, scope=past.whole.manifest.scope)


def judged(past, bundle, least=2):
    trust = dataclasses.replace(past.trust, witnesses=None if least is None else Quorum(least, tuple(WITNESSES)))
    audit = verify(read(write(bundle)), trust)
    return audit, found(audit, "audit.witnesses")


def test_a_log_that_enough_of_the_named_witnesses_signed_holds(past):
    audit, finding = judged(past, with_state(past))
    assert audit.accepted
    assert (finding.status, finding.items) == (Status.PASS, len(past.whole.folder(files.LEAVES)))


def test_whoever_names_no_witnesses_is_not_held_up_by_them(past):
    audit, finding = judged(past, with_state(past, signers=()), None)
    assert audit.accepted
    assert finding.status is Status.NOT_RUN


@pytest.mark.parametrize("signers", [(), (0,), (1,)])
def test_a_log_that_too_few_of_the_named_witnesses_signed_does_not_hold(past, signers):
    audit, finding = judged(past, with_state(past, signers=signers))
    assert not audit.accepted
    assert finding.status is Status.FAIL


def test_a_state_of_another_log_does_not_hold_whoever_signed_it(past):
    size = len(past.whole.folder(files.LEAVES)) - 1
    audit, finding = judged(past, with_state(past, size=size, root=bytes(32)))
    assert not audit.accepted
    assert finding.status is Status.FAIL


def test_leaves_after_the_signed_state_are_missing(past):
    size = len(past.whole.folder(files.LEAVES)) - 2
    audit, finding = judged(past, with_state(past, size=size))
    assert not audit.accepted
    assert finding.status is Status.NOT_RUN
    assert f"leaf {size}:" in finding.detail


def test_a_bundle_without_a_signed_state_is_not_enough_for_who_names_witnesses(past):
    audit, finding = judged(past, past.whole)
    assert not audit.accepted
    assert finding.status is Status.NOT_RUN
