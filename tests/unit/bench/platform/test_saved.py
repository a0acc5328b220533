"""Saved runs: what is written is read again, and nothing else is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from platforms import CODE, saved

from strongroom.bench.platform.saved import MOST_BYTES, MOST_SAMPLES, measured, parse
from strongroom.errors import MalformedRecord, StrongroomError

WRITTEN = json.dumps(saved().as_json()).encode()


def document(**changes):
    return json.loads(WRITTEN) | changes


def refused(value):
    with pytest.raises(MalformedRecord):
        parse(json.dumps(value).encode())


def test_what_is_written_is_read_again():
    assert parse(WRITTEN) == saved()


def test_it_has_the_form_of_the_other_benchmarks():
    one = document()
    assert {"name", "machine", "date", "figures"} <= one.keys()
    assert {"id", "value", "unit", "baseline", "goal", "runs", "interval"} <= one["figures"][0].keys()
    assert one["figures"][0]["goal"] == ">= 0"
    assert one["figures"][1]["goal"] == "<= inf"


@pytest.mark.parametrize("field", sorted(json.loads(WRITTEN)))
def test_every_field_is_needed(field):
    one = document()
    del one[field]
    refused(one)


@pytest.mark.parametrize("field", sorted(json.loads(WRITTEN)["figures"][0]))
def test_every_field_of_a_figure_is_needed(field):
    one = document()
    del one["figures"][0][field]
    refused(one)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value", 11.0),
        ("value", 10),
        ("interval", [10.5, 11.0]),
        ("interval", [9.0, 9.5]),
        ("interval", [9.0]),
        ("interval", [9.0, "11"]),
        ("interval", {}),
        ("runs", 6),
        ("goal", ">= 1"),
        ("goal", 0),
        ("id", "Memory Copy"),
        ("unit", "a\nb"),
        ("baseline", "x" * 500),
        ("samples", [10.0] * 4),
        ("samples", [10.0] * (MOST_SAMPLES + 1)),
        ("samples", [10.0, 10.0, 10.0, 10.0, 0.0]),
        ("samples", [10.0, 10.0, 10.0, 10.0, -1.0]),
        ("samples", [10.0, 10.0, 10.0, 10.0, 1e999]),
        ("samples", [10.0, 10.0, 10.0, 10.0, True]),
        ("samples", [10.0, 10.0, 10.0, 10.0, "10"]),
        ("samples", [10.0, 10.0, 10.0, 10.0, 10**400]),
        ("samples", {}),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_figure_that_does_not_follow_from_its_samples_is_refused(field, value):
    one = document()
    one["figures"][0][field] = value
    refused(one)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "inference"},
        {"more": 1},
        {"figures": {}},
        {"figures": [1]},
        {"figures": document()["figures"][:1] * 2},
        {"settings": {"copy_mib": "512"}},
        {"settings": {"copy_mib": True}},
        {"settings": []},
        {"code": {**CODE, "python": 3}},
        {"environment": {"A B": "x"}},
        {"skipped": "nothing"},
        {"machine": 1},
        {"date": "\x1b[2J"},
    ],
    ids=str,
)
def test_another_document_is_refused(changes):
    refused(document(**changes))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"\xff", b'{"name":"platform","name":"platform"}', b" " * (MOST_BYTES + 1)], ids=len
)
def test_bytes_that_are_no_document_are_refused(data):
    with pytest.raises(MalformedRecord):
        parse(data)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_end_in_our_own_error(data):
    with pytest.raises(StrongroomError):
        parse(data)


@given(st.data())
def test_any_one_change_is_refused_or_read_as_what_it_says(data):
    text = bytearray(WRITTEN)
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255))
    try:
        found = parse(bytes(text))
    except MalformedRecord:
        return
    assert found.as_json() == json.loads(bytes(text))


def test_samples_are_kept_with_six_digits_and_the_figure_is_theirs():
    found = measured("a", "s", "less", "what", [1.23456789] * 5)
    assert found.samples == (1.23457,) * 5
    assert found.figure.value == 1.2346
