"""Collateral documents: what is needed must be there, of its type, in range."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import Unreadable
from strongroom.tee.tdx.documents import parse_qe_identity, parse_tcb_info

JUNK = [None, True, -1, 2**60, "", "zz", [], {}, [1], "00", "é" * 12]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def needed(document: dict[str, Any]) -> list[str]:
    return [name for name in document if name not in {"tcbLevels", "tdxModuleIdentities"}]


@pytest.mark.parametrize(("member", "parse"), [("tcb_info", parse_tcb_info), ("qe_identity", parse_qe_identity)])
def test_every_needed_member_missing_or_of_another_type_is_refused(place: Any, member: str, parse: Any):
    document = json.loads(getattr(place.collateral, member))
    for name in needed(document):
        with pytest.raises(Unreadable):
            parse(json.dumps({key: value for key, value in document.items() if key != name}))
        for junk in JUNK:
            if junk == document[name]:
                continue
            with pytest.raises(Unreadable):
                parse(json.dumps(document | {name: junk}))


def test_levels_with_too_few_components_are_refused(place: Any):
    document = json.loads(place.collateral.tcb_info)
    document["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].pop()
    with pytest.raises(Unreadable, match="components"):
        parse_tcb_info(json.dumps(document))


def test_members_that_intel_adds_are_skipped(place: Any):
    document = json.loads(place.collateral.tcb_info) | {"newMember": {"a": [1]}}
    assert parse_tcb_info(json.dumps(document)) == parse_tcb_info(place.collateral.tcb_info)


def test_a_member_twice_is_refused(place: Any):
    text = place.collateral.tcb_info
    with pytest.raises(Unreadable):
        parse_tcb_info(text[:-1] + ',"fmspc":"000000000000"}')


@settings(max_examples=50, deadline=None)
@given(json_values)
def test_any_json_ends_in_unreadable(value: Any):
    for parse in (parse_tcb_info, parse_qe_identity):
        with pytest.raises(Unreadable):
            parse(json.dumps(value))
