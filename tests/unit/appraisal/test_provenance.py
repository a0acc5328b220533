"""Provenance of the image: whose word counts, about which image, from which builder; and what is no provenance."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.appraisal.policies import from_toml, to_toml
from strongroom.appraisal.provenance import Provenance, check_provenance, open_provenance, parse_provenance
from strongroom.appraisal.signed import Known
from strongroom.crypto.signatures import fingerprint, generate_ed25519, generate_p256, sign_envelope
from strongroom.errors import MalformedRecord, SignatureInvalid
from strongroom.records.digest import digest_bytes
from strongroom.records.policy import ProvenancePolicy, Requirement
from strongroom.records.verdict import Status

PLATFORM, STRANGER = generate_p256(), generate_ed25519()
BUILDER = "https://builder.example/ci/v1"
IMAGE, OTHER = digest_bytes(b"image"), digest_bytes(b"another image")
ANY = Requirement(any="nobody asked")
PAYLOAD = "application/vnd.in-toto+json"


def document(*images: str, builder: str = BUILDER) -> dict[str, Any]:
    """A statement as build platforms write it, with members that nobody here reads."""
    subjects = [{"name": f"image{n}", "digest": {"sha256": d.removeprefix("sha256:")}} for n, d in enumerate(images)]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [*subjects, {"name": "log", "digest": {"sha512": "00"}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://builder.example/types/image/v1",
                "externalParameters": {"source": "git+https://example.org/image", "timeout": 1.5},
            },
            "runDetails": {"builder": {"id": builder, "version": {"ci": "7"}}, "metadata": {"invocationId": "9"}},
            "x-later": True,
        },
    }


def signed(*images: str, key: Any = PLATFORM, **changed: Any) -> Known:
    envelope = sign_envelope(PAYLOAD, json.dumps(document(*images, **changed)).encode(), key)
    return Known(provenance=(open_provenance(envelope, key.public_key()),))


def wanted(**changed: Any) -> ProvenancePolicy:
    named = {"signers": Requirement((fingerprint(PLATFORM.public_key()),)), "builders": Requirement((BUILDER,))}
    return ProvenancePolicy(**{**named, **changed})


def test_an_image_of_a_builder_that_the_policy_names_is_accepted(case: Any, with_policy: Any):
    verdict = case.judge(policy=with_policy(provenance=wanted()), known=signed(OTHER, IMAGE))
    assert verdict.accepted
    assert {c.detail for c in verdict.checks if c.id == "policy.provenance"} == {BUILDER}


@pytest.mark.parametrize(
    ("known", "status"),
    [
        (Known(), Status.NOT_RUN),
        (signed(IMAGE, key=STRANGER), Status.NOT_RUN),
        (signed(OTHER), Status.FAIL),
        (signed(IMAGE, builder=BUILDER + "/fork"), Status.FAIL),
    ],
    ids=["none", "of a stranger", "of another image", "of another builder"],
)
def test_provenance_that_does_not_say_so_is_not_a_pass(case: Any, with_policy: Any, known: Known, status: Status):
    verdict = case.judge(policy=with_policy(provenance=wanted()), known=known)
    assert not verdict.accepted
    assert [(c.id, c.status) for c in verdict.failed] == [("policy.provenance", status)]


def test_of_several_one_is_enough_and_a_strangers_counts_for_nothing():
    several = (*signed(IMAGE, builder="other").provenance, *signed(IMAGE).provenance)
    assert check_provenance(IMAGE, several, wanted()).status is Status.PASS
    strangers = (*signed(IMAGE, key=STRANGER).provenance, *signed(OTHER).provenance)
    assert check_provenance(IMAGE, strangers, wanted()).status is Status.FAIL


def test_a_policy_that_asks_nobody_says_why():
    check = check_provenance(IMAGE, (), wanted(signers=ANY, builders=ANY))
    assert (check.status, check.detail) == (Status.PASS, "nobody asked")
    assert check_provenance(IMAGE, signed(IMAGE).provenance, wanted(signers=ANY)).status is Status.NOT_RUN
    assert check_provenance(IMAGE, signed(IMAGE, builder="any").provenance, wanted(builders=ANY)).status is Status.PASS


def test_a_policy_cannot_pass_over_provenance_in_silence(case: Any, with_policy: Any):
    text = to_toml(with_policy(provenance=wanted()))
    assert from_toml(text).provenance == wanted()
    without = text[: text.index("[provenance]")] + text[text.index("[tdx]") :]
    for wrong in (
        without,
        text.replace(f'builders = ["{BUILDER}"]', "builders = []"),
        text.replace(f'builders = ["{BUILDER}"]', ""),
    ):
        with pytest.raises(MalformedRecord):
            from_toml(wrong)
    assert case.policy.provenance.signers.any


def test_what_somebody_else_signed_or_as_something_else_is_not_opened():
    payload = json.dumps(document(IMAGE)).encode()
    with pytest.raises(SignatureInvalid):
        open_provenance(sign_envelope(PAYLOAD, payload, PLATFORM), STRANGER.public_key())
    with pytest.raises(SignatureInvalid):
        open_provenance(sign_envelope("application/json", payload, PLATFORM), PLATFORM.public_key())


def at(*path: Any, value: Any = None, gone: bool = False) -> Any:
    def change(value_: Any) -> None:
        for step in path[:-1]:
            value_ = value_[step]
        if gone:
            del value_[path[-1]]
        else:
            value_[path[-1]] = value

    return change


CHANGES = {
    "another statement": at("_type", value="https://in-toto.io/Statement/v0.1"),
    "an older predicate": at("predicateType", value="https://slsa.dev/provenance/v0.2"),
    "no predicate": at("predicate", gone=True),
    "no builder": at("predicate", "runDetails", "builder", gone=True),
    "a builder without id": at("predicate", "runDetails", "builder", "id", gone=True),
    "an empty id": at("predicate", "runDetails", "builder", "id", value=""),
    "an id that is a list": at("predicate", "runDetails", "builder", "id", value=[BUILDER]),
    "a long id": at("predicate", "runDetails", "builder", "id", value="x" * 3000),
    "an id over two lines": at("predicate", "runDetails", "builder", "id", value="a\nb"),
    "no subjects": at("subject", value=[]),
    "subjects that are an object": at("subject", value={}),
    "a subject without digest": at("subject", 0, "digest", gone=True),
    "a digest that is a text": at("subject", 0, "digest", value="00"),
    "a digest that is none": at("subject", 0, "digest", "sha256", value="zz"),
    "a digest in capitals": at("subject", 0, "digest", "sha256", value="AA" * 32),
    "too many subjects": at("subject", value=[{"digest": {}}] * 5000),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_statement_of_another_shape_is_malformed(change: Any):
    changed = document(IMAGE)
    change(changed)
    with pytest.raises(MalformedRecord):
        parse_provenance(json.dumps(changed).encode())


@settings(max_examples=50, deadline=None)
@given(
    images=st.sets(st.binary(max_size=8), min_size=1, max_size=5), builder=st.text("abc:/.", min_size=1, max_size=20)
)
def test_what_a_platform_writes_is_read(images: set[bytes], builder: str):
    digests = [digest_bytes(image) for image in images]
    found = parse_provenance(json.dumps(document(*digests, builder=builder)).encode())
    assert found == Provenance(frozenset(digests), builder)


scalars = st.none() | st.integers() | st.floats() | st.text(max_size=9)
members = st.sampled_from(["_type", "subject", "predicate", "predicateType"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(members, inner, max_size=4), max_leaves=9
)


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(max_size=100) | values.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_malformed_and_nothing_else(payload: bytes):
    with pytest.raises(MalformedRecord):
        parse_provenance(payload)
