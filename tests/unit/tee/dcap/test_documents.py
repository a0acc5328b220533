"""Documents of Intel's: what is needed must be there, of its type, in range."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import Unreadable
from strongroom.tee.dcap import documents
from strongroom.tee.dcap.documents import UNSTATED, parse_qe_identity, parse_tcb_info

JUNK = [None, True, -1, 2**60, "", "zz", [], {}, [1], "00", "é" * 12]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def needed(document: dict[str, Any]) -> list[str]:
    return [name for name in document if name not in {"tcbLevels", "tdxModuleIdentities"}]


def parser(place: Any, member: str) -> Any:
    """The parser of one of the place's documents."""
    if member == "tcb_info":
        return lambda text: parse_tcb_info(text, place.kind.upper())
    return lambda text: parse_qe_identity(text, {"tdx": documents.TD_QE, "sgx": documents.QE}[place.kind])


@pytest.mark.parametrize("member", ["tcb_info", "qe_identity"])
def test_every_needed_member_missing_or_of_another_type_is_refused(place: Any, member: str):
    document, parse = json.loads(getattr(place.collateral, member)), parser(place, member)
    parse(json.dumps(document))
    for name in needed(document):
        with pytest.raises(Unreadable):
            parse(json.dumps({key: value for key, value in document.items() if key != name}))
        for junk in JUNK:
            if junk == document[name]:
                continue
            with pytest.raises(Unreadable):
                parse(json.dumps(document | {name: junk}))


@pytest.mark.parametrize("change", ["fewer", "more", "too high", "negative", "true", "text", "bare"])
def test_components_that_are_not_sixteen_svns_are_refused(place: Any, change: str):
    document = json.loads(place.collateral.tcb_info)
    components = document["tcbLevels"][0]["tcb"]["sgxtcbcomponents"]
    match change:
        case "fewer":
            components.pop()
        case "more":
            components.append({"svn": 0})
        case _:
            values = {"too high": 256, "negative": -1, "true": True, "text": "1"}
            components[3] = {"svn": values[change]} if change != "bare" else 1
    with pytest.raises(Unreadable, match=r"components|SVN"):
        parser(place, "tcb_info")(json.dumps(document))


def test_a_document_of_the_other_kind_is_refused(place: Any):
    other = {"tdx": "SGX", "sgx": "TDX"}[place.kind]
    with pytest.raises(Unreadable):
        parse_tcb_info(place.collateral.tcb_info, other)
    with pytest.raises(Unreadable):
        parse_qe_identity(place.collateral.qe_identity, {"tdx": documents.QE, "sgx": documents.TD_QE}[place.kind])


def test_members_that_intel_adds_are_skipped(place: Any):
    parse = parser(place, "tcb_info")
    document = json.loads(place.collateral.tcb_info) | {"newMember": {"a": [1]}}
    assert parse(json.dumps(document)) == parse(place.collateral.tcb_info)


@pytest.mark.parametrize("tail", [',"fmspc":"000000000000"}', ',"x":1.5}', ',"x":NaN}', ',"x":"\\ud800"}', "} ,"])
def test_json_that_is_not_plain_is_refused(place: Any, tail: str):
    with pytest.raises(Unreadable):
        parser(place, "tcb_info")(place.collateral.tcb_info[:-1] + tail)


def test_a_document_over_its_limit_is_refused_before_it_is_read(place: Any):
    with pytest.raises(Unreadable, match="limit"):
        parser(place, "tcb_info")(" " * (documents.MAX_BYTES + 1))


def version_2(place: Any) -> dict[str, Any]:
    """The place's TCB info of SGX as PCS API v3 wrote it."""
    document = json.loads(place.installation.collateral(place.now, kind="sgx").tcb_info)
    del document["id"]
    for level in document["tcbLevels"]:
        components = level["tcb"].pop("sgxtcbcomponents")
        level["tcb"] |= {f"sgxtcbcomp{index:02}svn": item["svn"] for index, item in enumerate(components, start=1)}
        level.pop("advisoryIDs", None)
    return document | {"version": 2}


def test_version_2_of_tcb_info_reads_like_version_3_but_for_advisories_it_does_not_state(place: Any):
    new = parse_tcb_info(place.installation.collateral(place.now, kind="sgx").tcb_info, documents.SGX)
    old = parse_tcb_info(json.dumps(version_2(place)), documents.SGX)
    assert [(level.sgx, level.pcesvn, level.level.status) for level in old.levels] == [
        (level.sgx, level.pcesvn, level.level.status) for level in new.levels
    ]
    assert [level.level.advisories for level in old.levels] == [(), (UNSTATED,), (UNSTATED,)]


def test_version_2_is_never_of_tdx_nor_has_an_id(place: Any):
    for document, kind in ((version_2(place), documents.TDX), (version_2(place) | {"id": "SGX"}, documents.SGX)):
        with pytest.raises(Unreadable):
            parse_tcb_info(json.dumps(document), kind)


@settings(max_examples=50, deadline=None)
@given(json_values)
def test_any_json_ends_in_unreadable(value: Any):
    for kind in (documents.TDX, documents.SGX):
        with pytest.raises(Unreadable):
            parse_tcb_info(json.dumps(value), kind)
    for enclave in (documents.TD_QE, documents.QE):
        with pytest.raises(Unreadable):
            parse_qe_identity(json.dumps(value), enclave)
