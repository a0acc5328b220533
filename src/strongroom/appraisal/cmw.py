"""Evidence and verdict in one wrapper that others can take apart: a RATS CMW collection (draft-ietf-rats-msg-wrap).

Knows: the JSON form of a collection, `{"__cmwc_t": type, name: [media type, base64url, indicator]}`, and which of its
members are ours. Does not know: what is inside; a wrapper proves nothing. Not covered: the CBOR form, nested collections.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from strongroom.errors import MalformedRecord
from strongroom.records import codec
from strongroom.records.evidence import EvidenceBundle

COLLECTION = "tag:strongroom,2026:attestation/v1"
EVIDENCE_TYPE = "application/vnd.strongroom.evidence-bundle.v1+json"
RESULT_TYPE = 'application/eat+jwt; eat_profile="tag:github.com,2023:veraison/ear"'
ENDORSEMENTS, EVIDENCE, RESULTS = 1 << 1, 1 << 2, 1 << 3
"""Indicator bits of the draft; our bundle holds evidence with its endorsements."""
RECORD_LENGTH = 3


@dataclass(frozen=True, slots=True)
class Attestation:
    """What travels together: evidence with collateral, and an EAR about it (None where nobody has judged yet)."""

    bundle: EvidenceBundle
    token: str | None


def wrap(attestation: Attestation) -> bytes:
    """The collection as JSON."""
    members = {"evidence": [EVIDENCE_TYPE, codec.b64encode(codec.encode(attestation.bundle)), EVIDENCE | ENDORSEMENTS]}
    if attestation.token is not None:
        members["result"] = [RESULT_TYPE, codec.b64encode(attestation.token.encode("ascii")), RESULTS]
    return json.dumps({"__cmwc_t": COLLECTION, **members}, separators=(",", ":")).encode("ascii")


def unwrap(data: bytes) -> Attestation:
    """Take a collection apart, trusting nothing in it. Raises `MalformedRecord`."""
    members = codec.parse_json(data)
    if not isinstance(members, dict) or members.pop("__cmwc_t", None) != COLLECTION:
        raise MalformedRecord("this is not a collection of evidence and result")
    if not {"evidence"} <= members.keys() <= {"evidence", "result"}:
        raise MalformedRecord("a collection holds evidence, and at most a result besides")
    bundle = codec.decode(EvidenceBundle, _content(members["evidence"], EVIDENCE_TYPE, EVIDENCE | ENDORSEMENTS))
    token = _content(members["result"], RESULT_TYPE, RESULTS) if "result" in members else None
    try:
        return Attestation(bundle, token.decode("ascii") if token is not None else None)
    except UnicodeDecodeError:
        raise MalformedRecord("the result in a collection is not a token") from None


def _content(record: object, media_type: str, indicator: int) -> bytes:
    if not isinstance(record, list) or len(record) != RECORD_LENGTH:
        raise MalformedRecord("a member of a collection is [media type, content, indicator]")
    found, content, bits = record
    if found != media_type or bits != indicator or type(bits) is not int or not isinstance(content, str):
        raise MalformedRecord("a member of a collection is of another type than its name says")
    return codec.b64decode(content)
