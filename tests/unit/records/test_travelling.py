"""The records that travel: golden files fix their bytes, JSON Schemas their shape."""

import json
from pathlib import Path

import jsonschema
import pytest

from strongroom.errors import MalformedRecord
from strongroom.records import codec, schema
from strongroom.records.envelope import Envelope
from strongroom.records.policy import Requirement
from strongroom.records.travelling import TRAVELLING
from strongroom.records.verdict import Level, Verdict, failed, not_run, passed

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden"
SCHEMAS = ROOT / "docs" / "reference" / "schemas"


@pytest.mark.parametrize("name", TRAVELLING)
def test_a_golden_file_is_read_and_written_byte_for_byte(name):
    data = (GOLDEN / f"{name}.json").read_bytes()
    assert codec.encode(codec.decode(TRAVELLING[name], data)) == data


@pytest.mark.parametrize("name", TRAVELLING)
def test_the_published_schema_is_the_one_the_types_give(name):
    published = json.loads((SCHEMAS / f"{name}.json").read_text())
    assert published == json.loads(json.dumps(schema.schema(TRAVELLING[name]))), "run `make reference`"


@pytest.mark.parametrize("name", TRAVELLING)
def test_a_golden_file_fits_its_schema_and_a_changed_one_does_not(name):
    published = json.loads((SCHEMAS / f"{name}.json").read_text())
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    validator = jsonschema.Draft202012Validator(published)
    validator.validate(document)
    assert not validator.is_valid({**document, "extra": 1})
    assert not validator.is_valid({**document, "type": "strongroom/other/v1"})


def test_an_empty_requirement_is_refused_and_a_reason_is_not():
    with pytest.raises(ValueError, match="non-empty"):
        Requirement()
    for reason in ("", " "):
        with pytest.raises(ValueError, match="non-empty"):
            Requirement(one_of=("a",), any=reason)
    with pytest.raises(MalformedRecord):
        Requirement.__from_json__([], "x")
    with pytest.raises(MalformedRecord):
        Requirement.__from_json__({"any": " "}, "x")
    assert Requirement.__from_json__({"any": "why"}, "x").admits("anything")
    assert not Requirement(one_of=("a",)).admits("b")


def test_a_verdict_without_checks_or_with_one_not_run_does_not_accept():
    def verdict(*checks, level=Level.CONFIDENTIAL):
        return Verdict(level, checks, {}, "sha256:" + "0" * 64, None, "release", 0)

    assert verdict(passed("a")).accepted
    assert not verdict().accepted
    assert not verdict(passed("a"), not_run("b", "why")).accepted
    assert not verdict(passed("a"), failed("b", "why")).accepted
    assert not verdict(passed("a"), level=Level.NONE).accepted


def test_an_envelope_keeps_its_payload_and_refuses_another_shape():
    envelope = Envelope("type", b"payload", (("key", b"signature"),))
    assert Envelope.from_bytes(envelope.to_bytes()) == envelope
    for text in (
        "{}",
        '{"payloadType":"a","payload":"","signatures":[]}',
        '{"payloadType":"a","payload":"!","signatures":[{"sig":""}]}',
    ):
        with pytest.raises(MalformedRecord):
            Envelope.from_bytes(text)
