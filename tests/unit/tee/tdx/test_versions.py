"""TD reports 1.5 and 1.5 extended: what runs now beside what was launched, and which service TDs are bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from dcap_world import DATA, failures

from strongroom.errors import MalformedEvidence
from strongroom.records.verdict import all_passed
from strongroom.tee.tdx import parse_quote
from strongroom.tee.tdx.tcb import RELAUNCH, RELAUNCH_CONFIGURATION
from strongroom_sim import Chip, tcb

GOOD, OLD, GONE = tcb.TEE_TCB_SVN, tcb.TEE_TCB_SVN_OUT_OF_DATE, tcb.TEE_TCB_SVN_REVOKED
SERVICE_TDS = bytes(range(237))


def quote(place: Any, launch: bytes, current: bytes | None, **chip: Any) -> bytes:
    return Chip(place.installation, mrtd=bytes(48), tee_tcb_svn=launch, tee_tcb_svn2=current, **chip).quote(DATA)


@pytest.mark.parametrize(
    ("launch", "current", "status"),
    [
        (GOOD, GOOD, "UpToDate"),
        (OLD, GOOD, RELAUNCH),
        (OLD, OLD, "OutOfDate"),
        (GOOD, OLD, "OutOfDate"),  # Intel's library says UpToDate: it looks at the launch alone
    ],
)
def test_launch_and_present_make_one_status(place: Any, launch: bytes, current: bytes, status: str):
    genuine = place.judge(quote(place, launch, current))
    assert all_passed(genuine.checks)
    assert genuine.tcb_status == status
    assert genuine.claims["tee_tcb_svn2"] == current.hex()
    assert genuine.claims["tcb_status_current"] == ("UpToDate" if current == GOOD else "OutOfDate")
    assert genuine.advisories == (() if launch == current == GOOD else (tcb.ADVISORY,))


def test_a_relaunch_that_is_advised_says_where_configuration_is_needed_too(place: Any):
    levels = [
        level | {"tcbStatus": level["tcbStatus"]}
        for level in tcb.tcb_info(place.installation.platform, "", "")["tcbLevels"]
    ]
    levels[0]["tcbStatus"] = "ConfigurationNeeded"
    collateral = place.installation.resigned(place.collateral, "tcb_info", tcbLevels=levels)
    assert place.judge(quote(place, OLD, GOOD), collateral).tcb_status == RELAUNCH_CONFIGURATION


@pytest.mark.parametrize("current", [GONE, bytes(16), bytes([9, 7, 9]) + bytes(13)])
def test_a_module_that_runs_now_and_reaches_no_level_fails(place: Any, current: bytes):
    genuine = place.judge(quote(place, GOOD, current))
    assert failures(genuine) == {"tdx.tcb.current"}
    assert genuine.tcb_status is None


def test_a_td_report_1_0_knows_its_launch_only(place: Any):
    genuine = place.judge(quote(place, GOOD, None))
    assert genuine.claims["tee_tcb_svn2"] == ""
    assert "tcb_status_current" not in genuine.claims


def test_an_extended_report_reads_as_another_parser_does(place: Any):
    data = quote(place, GOOD, GOOD, mr_service_td=bytes([5]) * 48, service_tds=SERVICE_TDS)
    ours, theirs = parse_quote(data).body, dcap_qvl.parse_quote(data).report
    found = ours.service_tds
    assert found is not None
    assert (found.vmid, found.td_id, found.devinfo) == (theirs.vmid, bytes(theirs.td_id), bytes(theirs.dev_info))
    assert found.init_hash == bytes(theirs.init_service_td_hash)
    assert found.init_attributes == bytes(theirs.init_service_td_attributes)
    assert (found.init_cpusvn, found.init_tee_tcb_svn) == (bytes(theirs.init_cpu_svn), bytes(theirs.init_tee_tcb_svn))
    assert found.init_model == bytes(theirs.init_tee_fmspc)
    assert found.current_hash == bytes(theirs.cur_service_td_hash)
    assert found.current_attributes == bytes(theirs.cur_service_td_attributes)
    assert ours.mrservicetd == bytes(theirs.mr_service_td) == bytes([5]) * 48


def test_an_extended_report_is_verified_and_claimed(place: Any):
    genuine = place.judge(quote(place, GOOD, GOOD, service_tds=SERVICE_TDS))
    assert all_passed(genuine.checks)
    assert genuine.claims["vmid"] == 0
    assert genuine.claims["td_id"] == SERVICE_TDS[1:33].hex()
    assert genuine.claims["service_td_current_attributes"] == SERVICE_TDS[229:].hex()


@pytest.mark.parametrize(("kind", "size"), [(2, 885), (3, 885), (4, 648), (4, 884), (4, 886), (5, 885), (1, 384)])
def test_a_body_of_another_size_than_its_type_has_is_refused(place: Any, kind: int, size: int):
    data = quote(place, GOOD, GOOD, service_tds=SERVICE_TDS)
    assert data[48:54] == b"\x04\x00" + (885).to_bytes(4, "little")
    with pytest.raises(MalformedEvidence):
        parse_quote(data[:48] + kind.to_bytes(2, "little") + size.to_bytes(4, "little") + data[54:])


def test_what_intel_certified_of_a_real_platform_is_claimed(vectors: Path, read_collateral: Any):
    from dcap_world import JUDGES, noon, read_quote

    from strongroom.tee.anchors import VENDOR_ANCHORS

    data, collateral = (
        read_quote(vectors, "v5_90c06f_uptodate.quote"),
        read_collateral("bundles/90c06f_2026-02-05.json"),
    )
    claims = JUDGES["tdx"](data, collateral, list(VENDOR_ANCHORS), noon("2026-02-05")).claims
    assert (claims["sgx_type"], claims["dynamic_platform"], claims["cached_keys"], claims["smt"]) == (1, "1", "1", "1")
    assert claims["tcb_status_current"] == "UpToDate"
