"""Members of leaves that are hidden under a salt, and opened by it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import LogInvalid
from strongroom.receipts.hidden import SALT_BYTES, commitment, hidden_members, hide, names_in, reveal
from strongroom.records.digest import digest_bytes, is_digest
from strongroom.records.release import Leaf, Opening

WHO, OTHER = digest_bytes(b"somebody"), digest_bytes(b"something")
KEY = Leaf("key", 7, "a-tenant/a-key", (WHO, OTHER), "wrapped")
CELL = Leaf("cell", 7, "steps", (WHO,), "created counter policy=p limit=None output=None")


def part(leaf, member):
    return {"subject": leaf.subject, "detail": leaf.detail, **{f"digests[{i}]": d for i, d in enumerate(leaf.digests)}}[
        member
    ]


def salts():
    counter = itertools.count(1)
    return lambda: next(counter).to_bytes(SALT_BYTES, "big")


HIDES = {
    "release": (Leaf("release", 1, "lease", (WHO, OTHER), "level=simulated"), ()),
    "renewal": (Leaf("renewal", 1, "lease", (WHO, OTHER), "level=simulated"), ()),
    "receipts": (Leaf("receipts", 1, "lease", (WHO, OTHER), "count=1"), ()),
    "refusal": (Leaf("refusal", 1, "renew:lease", (WHO, OTHER), "code"), ()),
    "refusal of a cell": (Leaf("refusal", 1, "cell:steps", (OTHER,), "code"), ("subject",)),
    "revocation": (Leaf("revocation", 1, "lease", (OTHER, WHO), "key"), ("digests[1]",)),
    "standing revocation": (Leaf("revocation", 1, "key:acme/k", (WHO,), "in force"), ("subject", "digests[0]")),
    "destruction": (Leaf("destruction", 1, "k", (WHO, OTHER), "versions=1"), ("subject", "digests[0]")),
    "administrator": (
        Leaf("administrator", 1, WHO, (WHO, OTHER), "added role=owner tenant=acme"),
        ("subject", "digests[0]", "digests[1]", "detail"),
    ),
    "policy": (Leaf("policy", 1, "p", (OTHER, WHO), "version=1"), ("subject", "digests[1]")),
    "key": (KEY, ("subject", "digests[0]", "digests[1]")),
    "cell": (CELL, ("subject", "digests[0]", "detail")),
    "change of a cell": (Leaf("cell", 1, "steps", (OTHER, OTHER, OTHER), "advance"), ("subject",)),
    "erasure": (Leaf("erasure", 1, "", (WHO,), "openings=3"), ("digests[0]",)),
    "what nobody knows yet": (Leaf("new", 1, "s", (WHO,), "d"), ("subject", "digests[0]", "detail")),
}


@pytest.mark.parametrize(("leaf", "members"), HIDES.values(), ids=HIDES)
def test_each_event_hides_what_points_to_somebody(leaf, members):
    hidden, openings = hide(leaf, salts())
    assert hidden_members(leaf) == hidden_members(hidden) == members
    assert tuple(opening.member for opening in openings) == members
    assert reveal(hidden, openings) == (leaf, 0)
    for member in members:
        assert part(leaf, member) != part(hidden, member)
        assert is_digest(part(hidden, member))


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ("acme/key", ("acme/key",)),
        ("key", ("key",)),
        ("cell:acme/steps", ("acme/steps",)),
        ("key:acme/key", ("acme/key",)),
        ("policy:acme/p", ("acme/p",)),
        ("tenant:acme", ("acme/",)),
        ("tenant:", ()),
        (WHO, ()),
        (f"artifact:{WHO}", ()),
        (f"worker:{WHO}", ()),
        ("", ()),
    ],
)
def test_a_subject_tells_whose_it_is(subject, names):
    assert names_in(subject) == names


def test_what_is_hidden_looks_like_a_digest_and_differs_each_time():
    one, two = (hide(Leaf("key", 7, "k", (WHO, WHO), ""), make)[0] for make in (salts(), lambda: b"s" * SALT_BYTES))
    values = [one.subject, *one.digests, two.subject, *two.digests]
    assert all(map(is_digest, values))
    assert len(set(values)) == len(values)


@given(keep=st.sets(st.integers(0, 2)))
def test_what_was_erased_stays_hidden_and_the_rest_is_shown(keep):
    hidden, openings = hide(KEY, salts())
    shown, closed = reveal(hidden, [opening for index, opening in enumerate(openings) if index in keep])
    assert closed == 3 - len(keep)
    for index, (value, closed_value, clear) in enumerate(
        zip(
            (shown.subject, *shown.digests), (hidden.subject, *hidden.digests), (KEY.subject, *KEY.digests), strict=True
        )
    ):
        assert value == (clear if index in keep else closed_value)


@pytest.mark.parametrize(
    "wrong",
    [
        Opening("subject", b"s" * SALT_BYTES, KEY.subject),
        Opening("detail", b"s" * SALT_BYTES, "wrapped"),
        Opening("digests[2]", b"s" * SALT_BYTES, WHO),
        Opening("digests[-1]", b"s" * SALT_BYTES, WHO),
        Opening("subjectß", b"s" * SALT_BYTES, ""),
    ],
)
def test_an_opening_that_does_not_fit_is_refused(wrong):
    hidden, openings = hide(KEY, salts())
    with pytest.raises(LogInvalid):
        reveal(hidden, [wrong])
    with pytest.raises(LogInvalid):
        reveal(hidden, [*openings, openings[0]])


@pytest.mark.parametrize("change", [{"salt": b"short"}, {"value": "a-tenant/b-key"}, {"member": "digests[0]"}])
def test_an_opening_with_any_part_changed_is_refused(change):
    hidden, (opening, *_) = hide(KEY, salts())
    parts = {"member": opening.member, "salt": opening.salt, "value": opening.value, **change}
    with pytest.raises(LogInvalid):
        reveal(hidden, [Opening(**parts)])


def test_what_is_hidden_in_place_of_a_digest_is_one():
    opening = Opening("digests[0]", b"s" * SALT_BYTES, "no digest")
    forged = Leaf("key", 7, "k", (commitment(opening),), "")
    with pytest.raises(LogInvalid, match="digest"):
        reveal(forged, [opening])


def test_a_member_and_its_value_are_framed():
    """The value of one member is no opening of another's."""
    salt = b"s" * SALT_BYTES
    assert commitment(Opening("subject", salt, WHO)) != commitment(Opening("detail", salt, WHO))
