"""CBOR: what is read, what is refused, and that there is one way to write a thing."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import cbor
from strongroom.errors import MalformedEvidence, UsageError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.integers(-1000, 100_000) | st.text("abc", max_size=5) | st.binary(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def plain(value: Any) -> Any:
    """A decoded value with the containers that Python compares."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    return value


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_what_is_written_is_read_back_by_us_and_by_another(value: Any):
    data = cbor.encode(value)
    assert plain(cbor.decode(data)) == plain(value)
    assert plain(cbor2.loads(data)) == plain(value)
    assert cbor.encode(cbor.decode(data)) == data


def test_keys_stand_in_the_order_of_their_bytes_and_not_of_their_lengths():
    """RFC 8949 section 4.2.1, its own example: 10, 100, -1, "z", "aa"."""
    found = cbor.encode({"aa": 0, "z": 0, -1: 0, 100: 0, 10: 0})
    assert found.hex() == "a50a001864002000617a0062616100"
    assert cbor.encode({-1: 0, 100: 0}) == bytes.fromhex("a21864002000")


REFUSED = {
    "nothing": "",
    "trailing bytes": "0000",
    "a number in two bytes that fits into one": "1817",
    "a number in three bytes that fits into two": "1900ff",
    "a number in five bytes that fits into three": "1a0000ffff",
    "a number in nine bytes that fits into five": "1b00000000ffffffff",
    "a length that is not the shortest": "580161",
    "half a number": "19ff",
    "a string that ends early": "4361",
    "an array that ends early": "8201",
    "an array of more items than there are atoms": "9bffffffffffffffff",
    "a string longer than memory": "5bffffffffffffffff",
    "an open array": "9f01ff",
    "an open map": "bf0101ff",
    "an open string": "5f4161ff",
    "the same key twice": "a201010102",
    "text that is not UTF-8": "61ff",
    "a half float": "f93c00",
    "a float": "fa3f800000",
    "a double": "fb3ff0000000000000",
    "undefined": "f7",
    "a simple value": "f820",
    "a small simple value": "e0",
    "a stray break": "ff",
    "a reserved head": "1c",
    "an open number": "1f",
    "a tag nobody asked for": "c100",
    "a big number": "c24101",
    "a shared reference": "d81c80",
    "a pattern": "d8236161",
    "self-described CBOR": "d9d9f700",
    "an array as a key": "a18001",
    "a map as a key": "a1a001",
    "a boolean as a key": "a1f501",
    "null as a key": "a1f601",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_strict_is_refused(data: str):
    with pytest.raises(MalformedEvidence):
        cbor.decode(bytes.fromhex(data))


@pytest.mark.parametrize("data", ["9f01ff", "bf0102ff", "5f41614162ff", "7f6161ff", "bf019f02ff03bf04f5ffff", "9fff"])
def test_open_lengths_are_read_where_the_caller_admits_them(data: str):
    found = bytes.fromhex(data)
    assert plain(cbor.decode(found, open_lengths=True)) == plain(cbor2.loads(found))
    with pytest.raises(MalformedEvidence, match="open"):
        cbor.decode(found)


@pytest.mark.parametrize("data", ["9f01", "bf01ff", "5f6161ff", "5f5f4161ffff", "7fff00", "5f"])
def test_an_open_length_must_be_closed_and_made_of_its_own_pieces(data: str):
    with pytest.raises(MalformedEvidence):
        cbor.decode(bytes.fromhex(data), open_lengths=True)


def test_depth_and_size_are_bounded_before_anything_is_built():
    nested = b"\x81" * 3 + b"\x00"
    assert plain(cbor.decode(nested, depth=3)) == [[[0]]]
    with pytest.raises(MalformedEvidence, match="deep"):
        cbor.decode(nested, depth=2)
    with pytest.raises(MalformedEvidence, match="deep"):
        cbor.decode(b"\x81" * 60_000 + b"\x00")
    with pytest.raises(MalformedEvidence, match="limit"):
        cbor.decode(bytes(11), limit=10)


def test_a_tag_is_read_only_where_it_is_named():
    found = cbor.decode(bytes.fromhex("d28100"), tags={18})
    assert isinstance(found, cbor.Tag)
    assert (found.tag, tuple(found.value)) == (18, (0,))
    with pytest.raises(MalformedEvidence, match="tag 18"):
        cbor.decode(bytes.fromhex("d28100"), tags={17})
    assert cbor.encode(cbor.Tag(18, [0])) == bytes.fromhex("d28100")


@pytest.mark.parametrize("value", [1.5, {1.5: 0}, {True: 0}, {(1,): 0}, {1, 2}, object(), 1 << 64, -(1 << 64) - 1])
def test_what_has_no_place_in_it_is_not_written(value: Any):
    with pytest.raises(UsageError):
        cbor.encode(value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_read_or_refused_and_what_is_read_has_one_spelling(data: bytes, open_lengths: Any):
    try:
        value = cbor.decode(data, open_lengths=open_lengths, tags={18, 399})
    except MalformedEvidence:
        return
    assert len(cbor.encode(value)) <= len(data)
    if not open_lengths:
        assert (
            plain(cbor2.loads(data, allow_duplicate_keys=False, allow_indefinite=False)) == plain(value)
            or b"\xd2" in data
        )


def fields(value: Any) -> cbor.Fields:
    return cbor.Fields(cbor.decode(cbor.encode(value)), "a thing")


def test_members_are_taken_with_their_types():
    found = fields({"octets": b"ab", "text": "word", 3: 7, "items": [1], "map": {1: 2}, "null": None})
    assert found.octets("octets", {2}) == b"ab"
    assert found.text("text", 4) == "word"
    assert found.integer(3, range(8)) == 7
    assert tuple(found.items("items", range(1, 2))) == (1,)
    assert dict(found.mapping("map", range(1, 2))) == {1: 2}
    assert not found.has("null", null=True)
    found.end()


@pytest.mark.parametrize(
    "take",
    [
        lambda found: found.octets("a", {1}),
        lambda found: found.octets("b", {3}),
        lambda found: found.text("b", 9),
        lambda found: found.text("t", 2),
        lambda found: found.text("empty", 9),
        lambda found: found.text("bell", 9),
        lambda found: found.text("wide", 9),
        lambda found: found.integer("n", range(5)),
        lambda found: found.integer("true", range(5)),
        lambda found: found.items("b", range(9)),
        lambda found: found.items("l", range(2)),
        lambda found: found.mapping("l", range(9)),
        lambda found: found.mapping("m", range(1)),
        lambda found: found.end(),
    ],
)
def test_a_member_of_another_type_or_size_or_none_at_all_is_refused(take: Any):
    values = {
        "b": b"ab",
        "t": "abc",
        "empty": "",
        "bell": "\a",
        "wide": "é",
        "n": 5,
        "true": True,
        "l": [1, 2],
        "m": {1: 1},
    }
    with pytest.raises(MalformedEvidence):
        take(fields(values))


def test_a_thing_that_is_no_map_has_no_members():
    with pytest.raises(MalformedEvidence, match="map"):
        cbor.Fields((1, 2), "a thing")
