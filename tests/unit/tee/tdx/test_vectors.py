"""Quotes of real machines, each with its stated outcome at its stated time, and dcap-qvl as a second opinion.

Where the second opinion differs, the difference is stated: it refuses debug TDs, bound service TDs and a clear
SEPT_VE_DISABLE itself (here a claim, judged by policy), and it takes quotes with anything behind their end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from dcap_world import noon, peers_collateral, read_quote, second_opinion

from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import Event, IntelCollateral
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import INTEL_SGX_ROOT, VENDOR_ANCHORS
from strongroom.tee.genuine import Genuine
from strongroom.tee.tdx import parse_quote, verify
from strongroom.tee.tdx.events import extend
from strongroom.tee.tdx.parse import trim

B0C06F, TOO_OLD = "v4_b0c06f_uptodate.collateral.json", "v5_90c06f_tcb_not_supported.collateral.json"
EMR_2025, EMR_02, EMR_03 = (f"bundles/90c06f_{day}.json" for day in ("2025-06-25", "2026-02-05", "2026-03-17"))
SPR_2023, SPR_2026 = "bundles/50806f_2023-06-25.json", "bundles/50806f_2026-03-17.json"
GNR, GCP = "bundles/00a06d_2026-02-05.json", "bundles/00806f05_2025-06-25.json"
FIVE = ("INTEL-SA-01036", "INTEL-SA-01079", "INTEL-SA-01099", "INTEL-SA-01103", "INTEL-SA-01111")
ALL: set[str] = set()
NO_LEVEL = {"tdx.tcb.platform"}
# quote, collateral, day, merged status, advisories, failed checks, what dcap-qvl says (None: it refuses)
CASES: list[tuple[str, str, str, str | None, tuple[str, ...], set[str], str | None]] = [
    ("v4_b0c06f_uptodate.quote", B0C06F, "2025-07-04", "UpToDate", (), ALL, "UpToDate"),
    (
        "v4_b0c06f_uptodate.quote", B0C06F, "2025-07-20", None, (),
        {"tdx.pck.crl", "tdx.tcb_info.fresh", "tdx.qe_identity.fresh"}, None,
    ),
    ("v5_90c06f_tcb_not_supported.quote", TOO_OLD, "2026-03-01", None, (), NO_LEVEL, None),
    ("v5_90c06f_tcb_not_supported.quote", EMR_02, "2026-02-05", None, (), NO_LEVEL, None),
    ("v5_90c06f_uptodate.quote", EMR_02, "2026-02-05", "UpToDate", (), ALL, "UpToDate"),
    ("v5_90c06f_uptodate.quote", TOO_OLD, "2026-03-01", "UpToDate", (), ALL, "UpToDate"),
    ("v5_90c06f_uptodate.quote", EMR_03, "2026-03-17", "UpToDate", (), ALL, "UpToDate"),
    ("v5_90c06f_uptodate.quote", EMR_2025, "2025-06-25", None, (), {"tdx.pck.chain"}, None),
    ("v4_50806f_spr_e4_tcb_not_supported.quote", SPR_2023, "2023-06-25", None, (), NO_LEVEL, None),
    ("v4_50806f_spr_e4_tcb_not_supported.quote", SPR_2026, "2026-03-17", None, (), NO_LEVEL, None),
    ("v4_50806f_DEBUG.quote", SPR_2023, "2023-06-25", "UpToDate", (), ALL, None),
    (
        "v4_00a06d_gnr_platform_outofdate_module_uptodate.quote", GNR, "2026-02-05", "OutOfDate", (), ALL, "OutOfDate",
    ),
    ("v5_90c06f_servicetd_outofdate.quote", EMR_2025, "2025-06-25", "UpToDate", (), ALL, None),
    ("v5_90c06f_servicetd_outofdate.quote", EMR_02, "2026-02-05", "OutOfDate", FIVE, ALL, None),
    ("v4_00806f05_gcp_cos113_module_rule.quote", GCP, "2025-06-25", "UpToDate", (), ALL, "UpToDate"),
    ("v4_90c06f_dstack_quote_report.json", EMR_02, "2026-02-05", "UpToDate", (), ALL, "UpToDate"),
    ("v4_90c06f_dstack_quote_report.json", TOO_OLD, "2026-03-01", "UpToDate", (), ALL, "UpToDate"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "bundle", "day", "status", "advisories", "failed", "peer"), CASES)
def test_a_real_quote_has_its_stated_outcome(
    vectors: Path,
    read_collateral: Callable[[str], IntelCollateral],
    name: str,
    bundle: str,
    day: str,
    status: str | None,
    advisories: tuple[str, ...],
    failed: set[str],
    peer: str | None,
):
    quote = read_quote(vectors, name)
    genuine = verify(parse_quote(quote), read_collateral(bundle), VENDOR_ANCHORS, noon(day))
    assert {check.id for check in genuine.checks if check.status is Status.FAIL} == failed
    assert all_passed(genuine.checks) is not bool(failed)
    assert (genuine.tcb_status, genuine.advisories) == (status, advisories)
    assert genuine.root_class is (None if "tdx.pck.chain" in failed else RootClass.SILICON)
    assert second_opinion(quote, (vectors / bundle).read_text(), noon(day)) == peer


def judged(vectors: Path, read: Callable[[str], IntelCollateral], name: str, bundle: str, day: str) -> Genuine:
    return verify(parse_quote(read_quote(vectors, name)), read(bundle), VENDOR_ANCHORS, noon(day))


def test_platform_and_module_are_both_claimed_where_they_differ(vectors: Path, read_collateral: Any):
    name = "v4_00a06d_gnr_platform_outofdate_module_uptodate.quote"
    claims = judged(vectors, read_collateral, name, GNR, "2026-02-05").claims
    assert (claims["tcb_status_platform"], claims["tcb_status_module"]) == ("OutOfDate", "UpToDate")
    assert claims["tcb_date"] == "2018-01-04T00:00:00Z"


def test_what_policy_must_refuse_is_claimed(vectors: Path, read_collateral: Any):
    debug = judged(vectors, read_collateral, "v4_50806f_DEBUG.quote", SPR_2023, "2023-06-25").claims
    assert debug["td_attributes"] == "0100001000000000"
    service = judged(vectors, read_collateral, "v5_90c06f_servicetd_outofdate.quote", EMR_02, "2026-02-05").claims
    assert len(str(service["mr_service_td"])) == 96
    assert set(str(service["mr_service_td"])) != {"0"}


def test_claims_are_those_that_others_read(vectors: Path, read_collateral: Any):
    name = "v4_00806f05_gcp_cos113_module_rule.quote"
    claims = judged(vectors, read_collateral, name, GCP, "2025-06-25").claims
    assert str(claims["rtmr0"]).startswith("3fa2f61f39")
    assert str(claims["rtmr1"]).startswith("f62dbc072b")
    assert str(claims["rtmr2"]).startswith("4969684dc8")
    assert claims["fmspc"] == "00806f050000"
    assert claims["tcb_evaluation_number"] == 17
    nonce = (vectors / "v4_00806f05_gcp_cos113.nonce.bin").read_bytes()
    assert claims["report_data"] == nonce.hex()


def test_the_pinned_root_is_the_one_that_real_chains_end_at(vectors: Path):
    chain = (vectors / "pcs2026-03_tcb_signing_chain.pem").read_text()
    der = dcap_root(chain)
    assert f"sha256:{hashlib.sha256(der).hexdigest()}" == INTEL_SGX_ROOT.fingerprint


def dcap_root(chain: str) -> bytes:
    import base64

    body = chain.rsplit("-----BEGIN CERTIFICATE-----", maxsplit=1)[-1].split("-----END", maxsplit=1)[0]
    return base64.b64decode(body)


def test_a_real_register_replays_from_its_events(vectors: Path):
    document = json.loads((vectors / "v4_90c06f_dstack_quote_report.json").read_text())
    log = document["event_log"]
    events = json.loads(log) if isinstance(log, str) else log
    register = bytes(48)
    for event in events:
        if event["imr"] == 3:
            register = extend(register, bytes.fromhex(event["digest"]))
    assert register == parse_quote(read_quote(vectors, "v4_90c06f_dstack_quote_report.json")).body.rtmr3
    assert register != bytes(48)


def test_anything_behind_a_real_quote_is_refused(vectors: Path):
    for name in ("v4_b0c06f_uptodate.quote", "v4_50806f_spr_e4_tcb_not_supported.quote"):
        with pytest.raises(MalformedEvidence):
            parse_quote((vectors / name).read_bytes())
    with pytest.raises(MalformedEvidence):
        trim((vectors / "v4_50806f_spr_e4_tcb_not_supported.quote").read_bytes())


def test_the_chains_of_two_real_machines_do_not_mix(vectors: Path, read_collateral: Any):

    mine = parse_quote(read_quote(vectors, "v4_90c06f_dstack_quote_report.json"))
    other = parse_quote(read_quote(vectors, "v5_90c06f_uptodate.quote"))
    mixed = mine._replace(pck_chain=other.pck_chain)
    genuine = verify(mixed, read_collateral(EMR_02), VENDOR_ANCHORS, noon("2026-02-05"))
    assert {check.id for check in genuine.checks if check.status is Status.FAIL} == {"tdx.qe.signature"}
    assert "mrtd" not in genuine.claims


def test_no_flipped_bit_in_a_real_quote_is_accepted(vectors: Path, read_collateral: Any):
    quote, collateral = read_quote(vectors, "v5_90c06f_uptodate.quote"), read_collateral(EMR_02)
    for position in range(0, len(quote), 11):
        changed = bytearray(quote)
        changed[position] ^= 1 << (position % 8)
        try:
            parsed = parse_quote(bytes(changed))
        except MalformedEvidence:
            continue
        assert not all_passed(verify(parsed, collateral, VENDOR_ANCHORS, noon("2026-02-05")).checks), position


def test_the_event_type_of_strongroom_replays_like_any_other():
    event = Event("artifact", "sha256:" + "0" * 64)
    assert extend(bytes(48), event.measurement) == hashlib.sha384(bytes(48) + event.measurement).digest()


def test_a_simulated_quote_convinces_the_second_opinion_under_its_root(place: Any):
    data = bytes(range(64))
    quote = place.chip.quote(data)
    der = dcap_root(place.installation.root_pem.decode())
    found = dcap_qvl.verify_with_root_ca(quote, peers_collateral(place.collateral), der, place.now)
    assert str(found.status) == place.judge(quote).tcb_status == "UpToDate"
    with pytest.raises(ValueError, match=r".*"):
        dcap_qvl.verify(quote, peers_collateral(place.collateral), place.now)
