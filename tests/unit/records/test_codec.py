import dataclasses
import json
from collections.abc import Mapping
from typing import ClassVar

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import MalformedRecord
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, digest_record, frame
from strongroom.records.evidence import Event
from strongroom.records.release import Leaf
from strongroom.records.verdict import Check, Status


@dataclasses.dataclass(frozen=True)
class Everything:
    TYPE: ClassVar[str] = "test/everything/v1"
    text: str
    number: int
    yes: bool
    data: bytes
    digest: Digest
    maybe: Digest | None
    many: tuple[Event, ...]
    settings: Mapping[str, str | int]
    status: Status


def example(**changed: object) -> Everything:
    values: dict[str, object] = {
        "text": "ä",
        "number": 7,
        "yes": True,
        "data": b"\x00\xff",
        "digest": digest_bytes(b"x"),
        "maybe": None,
        "many": (Event("a", "b"),),
        "settings": {"name": "x", "n": 1},
        "status": Status.PASS,
    }
    return Everything(**(values | changed))  # type: ignore[arg-type]


def members(**changed: object) -> dict[str, object]:
    return {**json.loads(codec.encode(example())), **changed}


def test_a_record_survives_the_journey_unchanged():
    assert codec.decode(Everything, codec.encode(example())) == example()


@given(
    text=st.text(),
    number=st.integers(-codec.MAX_INTEGER, codec.MAX_INTEGER),
    data=st.binary(),
    settings=st.dictionaries(st.text(), st.integers(0, 9) | st.text()),
)
def test_every_value_survives_and_has_one_encoding(text, number, data, settings):
    record = example(text=text, number=number, data=data, settings=settings)
    try:
        encoded = codec.encode(record)
    except UnicodeEncodeError:  # lone surrogates have no UTF-8
        return
    again = codec.decode(Everything, encoded)
    assert again == record
    assert codec.encode(again) == encoded


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", 1),
        ("number", True),
        ("number", "7"),
        ("number", 2**53),
        ("yes", 1),
        ("data", "AA=="),
        ("data", "AB"),
        ("data", "A"),
        ("data", "+/"),
        ("digest", "sha256:00"),
        ("digest", "sha512:" + "0" * 64),
        ("maybe", "none"),
        ("many", {}),
        ("many", [{"name": "a"}]),
        ("many", [{"name": "a", "value": "b", "more": 1}]),
        ("settings", {"a": True}),
        ("settings", {"a": None}),
        ("status", "maybe"),
        ("type", "test/everything/v2"),
        ("unknown", 1),
    ],
)
def test_a_member_of_another_shape_is_refused(name, value):
    with pytest.raises(MalformedRecord):
        codec.decode(Everything, json.dumps(members(**{name: value})))


@pytest.mark.parametrize("name", [*sorted(Everything.__annotations__.keys() - {"TYPE"}), "type"])
def test_a_missing_member_is_refused(name):
    found = members()
    del found[name]
    with pytest.raises(MalformedRecord):
        codec.decode(Everything, json.dumps(found))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        '{"a":1,"a":2}',
        "[1.5]",
        "[NaN]",
        "[Infinity]",
        "[1e3]",
        "{} {}",
        "[" * 30 + "]" * 30,
        "[" * 100_000,
        '"\ud800"'.encode("utf-8", "surrogatepass"),
        b"\xff",
        " " * (codec.MAX_BYTES + 1),
    ],
)
def test_what_is_not_a_plain_bounded_json_document_is_refused(text):
    with pytest.raises(MalformedRecord):
        codec.decode(Everything, text)


@given(st.binary(max_size=200))
def test_the_parser_is_total(data):
    try:
        codec.decode(Everything, data)
    except MalformedRecord:
        pass


@given(st.binary())
def test_base64_has_one_spelling(data):
    assert codec.b64decode(codec.b64encode(data)) == data
    assert "=" not in codec.b64encode(data)


def test_frames_of_different_things_never_meet():
    assert frame("ab", b"c") != frame("a", b"bc")
    assert frame("a", b"") != frame("a", b"\0")


def test_only_a_record_with_a_type_of_its_own_is_hashed():
    assert digest_record(Leaf("release", 1, "x", (), "")).startswith("sha256:")
    with pytest.raises(TypeError):
        digest_record(Check("a", Status.PASS, ""))


def test_an_event_measures_its_name_and_its_value():
    assert len(Event("a", "b").measurement) == 48
    assert len({Event("a", "b").measurement, Event("ab", "").measurement, Event("b", "a").measurement}) == 3


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.text(st.characters(max_codepoint=127), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-codec.MAX_INTEGER, codec.MAX_INTEGER) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_bytes_are_those_of_rfc_8785_whatever_the_text(value):
    assert codec.encode(value) == rfc8785.dumps(value)
