"""Reports of real chips, each with its stated outcome at its stated time.

No vector brings a revocation list, so `snp.crl` is not-run in every one, and none is accepted for that alone; which checks
fail is what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from strongroom.appraisal.kinds.snp import exposed
from strongroom.crypto import x509
from strongroom.records.evidence import AmdCollateral
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import AMD_ROOTS, VENDOR_ANCHORS
from strongroom.tee.genuine import Genuine
from strongroom.tee.snp import parse_report, verify

NONE: set[str] = set()
CHAIN = {"snp.chain"}
MILAN_DEBUG, MILAN, GENOA = "v2_milan_DEBUG", "v2_milan", "v3_genoa"
TURIN, VLEK, DSTACK = "v5_turin", "v3_milan_vlek_vmpl1", "v3_milan_dstack"
REPORTS = {
    MILAN_DEBUG: (f"{MILAN_DEBUG}.report.bin", f"{MILAN_DEBUG}.vcek.der", "ask_ark_milan"),
    MILAN: (f"{MILAN}.report.hex", f"{MILAN}.vcek.der", "ask_ark_milan"),
    GENOA: (f"{GENOA}.report.bin", f"{GENOA}.vcek.pem", "ask_ark_genoa"),
    TURIN: (f"{TURIN}.report.bin", f"{TURIN}.vcek.pem", "ask_ark_turin"),
    VLEK: (f"{VLEK}.report.bin", f"{VLEK}.vlek.der", "asvk_ark_milan"),
    DSTACK: (f"{DSTACK}.scale.bin", f"{DSTACK}.vcek.pem", "ask_ark_milan"),
}
# report, leaf, chain (None: its own), day, failed checks
CASES: list[tuple[str, str | None, str | None, str, set[str]]] = [
    (MILAN_DEBUG, None, None, "2024-01-01", NONE),
    (MILAN_DEBUG, None, None, "2029-09-26", CHAIN),
    (MILAN, None, None, "2024-01-01", NONE),
    (MILAN, None, None, "2023-04-02", CHAIN),
    (GENOA, None, None, "2026-06-01", NONE),
    (TURIN, None, None, "2026-06-01", NONE),
    (VLEK, None, None, "2025-06-01", NONE),
    (VLEK, None, None, "2025-12-12", CHAIN),
    (DSTACK, None, None, "2026-07-01", NONE),
    (MILAN, "NEG_vcek_wrong_chip_legacy.der", None, "2024-01-01", CHAIN),
    (MILAN, "NEG_vcek_wrong_chip_new.der", None, "2024-01-01", CHAIN),
    (MILAN, None, "ask_ark_genoa", "2024-01-01", CHAIN),
    (MILAN, None, "asvk_ark_milan", "2024-01-01", CHAIN),
    (VLEK, None, "ask_ark_milan", "2025-06-01", CHAIN),
    (TURIN, None, "asvk_ark_turin", "2026-06-01", CHAIN),
    (GENOA, None, "asvk_ark_genoa", "2026-06-01", CHAIN),
    (MILAN, f"{DSTACK}.vcek.pem", None, "2026-07-01", {"snp.report.signature"}),
    (DSTACK, f"{MILAN}.vcek.der", None, "2026-07-01", {"snp.report.signature"}),
    (GENOA, f"{TURIN}.vcek.pem", "ask_ark_turin", "2026-06-01", {"snp.product", "snp.report.signature"}),
    (MILAN, f"{VLEK}.vlek.der", "asvk_ark_milan", "2025-06-01", {"snp.report.signer"}),
]


def noon(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp())


@pytest.fixture(scope="session")
def judged(read_report: Any, read_collateral: Any) -> Callable[..., Genuine]:
    def judge(name: str, leaf: str | None = None, chain: str | None = None, day: str = "2026-07-01") -> Genuine:
        report, own_leaf, own_chain = REPORTS[name]
        collateral = read_collateral(leaf or own_leaf, chain or own_chain)
        return verify(parse_report(read_report(report)), collateral, VENDOR_ANCHORS, noon(day))

    return judge


def with_status(genuine: Genuine, status: Status) -> set[str]:
    return {check.id for check in genuine.checks if check.status is status}


@pytest.mark.parametrize(("name", "leaf", "chain", "day", "failed"), CASES)
def test_a_real_report_has_its_stated_outcome(
    judged: Any, name: str, leaf: str | None, chain: str | None, day: str, failed: set[str]
):
    genuine = judged(name, leaf, chain, day)
    got = with_status(genuine, Status.FAIL)
    assert got == failed, f"{name} at {day}: expected {failed or 'no failure'}, got {got or 'no failure'}"
    assert not all_passed(genuine.checks)
    if not failed:
        assert with_status(genuine, Status.NOT_RUN) == {"snp.crl"}
        assert genuine.root_class is RootClass.SILICON
    if failed & {"snp.chain", "snp.report.signature", "snp.report.signer"}:
        assert genuine.claims == {}


def test_every_vector_is_in_the_table(vectors: Path):
    told = {name for files in REPORTS.values() for name in files}
    told |= {leaf for _, leaf, _, _, _ in CASES if leaf} | {chain for _, _, chain, _, _ in CASES if chain}
    told |= {f"amd_{name}.pem" for name in told} | {f"{DSTACK}_verifier_input.json"}
    assert {path.name for path in vectors.iterdir()} <= told


def test_the_pinned_roots_are_those_that_real_chains_end_at(read_collateral: Any):
    for anchor, product in zip(AMD_ROOTS, ("milan", "genoa", "turin"), strict=True):
        for family in ("ask", "asvk"):
            chain = read_collateral(f"{MILAN}.vcek.der", f"{family}_ark_{product}").chain
            root = x509.load_chain(chain.replace("\r\n", "\n"))[-1]
            assert anchor.fingerprint == x509.certificate_digest(root)
            assert anchor.name == f"AMD {x509.common_name(root)}"


def test_the_lines_of_a_real_chain_may_end_as_amd_writes_them_and_not_in_a_mixture(read_collateral: Any, judged: Any):
    turin, milan = (read_collateral(f"{MILAN}.vcek.der", f"ask_ark_{name}").chain for name in ("turin", "milan"))
    assert "\r\n" in turin
    assert "\r" not in milan
    assert judged(TURIN).claims["product"] == "Turin"
    mixed = AmdCollateral(b"", turin.replace("\r\n", "\n", 1), b"")
    genuine = verify(parse_report(bytes.fromhex("02") + bytes(1183)), mixed, VENDOR_ANCHORS, noon("2026-07-01"))
    assert "snp.anchor" in with_status(genuine, Status.FAIL)


def test_debug_is_a_claim_and_the_host_is_said_to_look_inside(judged: Any):
    genuine = judged(MILAN_DEBUG, day="2024-01-01")
    assert genuine.claims["debug"] == 1
    assert [check.id for check in exposed(genuine) if check.status is Status.FAIL] == ["snp.debug"]
    assert {check.status for check in exposed(judged(GENOA))} == {Status.PASS}


def test_claims_are_those_that_others_read(judged: Any):
    milan, turin, vlek, dstack = judged(MILAN), judged(TURIN), judged(VLEK, day="2025-06-01"), judged(DSTACK)
    assert (milan.claims["report_version"], milan.claims["product"], milan.claims["vmpl"]) == (2, "Milan", 0)
    assert [milan.claims[f"tcb_reported_{part}"] for part in ("bootloader", "tee", "snp", "microcode")] == [
        3,
        0,
        8,
        0x73,
    ]
    assert [turin.claims[f"tcb_reported_{part}"] for part in ("fmc", "bootloader", "tee", "snp", "microcode")] == [
        1,
        1,
        1,
        4,
        81,
    ]
    assert turin.claims["mitigations_current"] == f"{0x3F:016x}"
    assert str(turin.claims["chip_id"]).startswith("59790fb1c39f35c100")
    assert (turin.claims["guest_policy"], turin.claims["platform_info"]) == ("1f00030000000000", "6500000000000000")
    assert (vlek.claims["vmpl"], vlek.claims["signing_key"], vlek.claims["chip_id"]) == (1, "vlek", "")
    assert str(vlek.claims["csp_id"]).startswith("CN=cc-us-")
    assert (vlek.claims["provisional"], vlek.claims["tcb_committed_microcode"]) == (1, 0xDB)
    assert (dstack.claims["tcb_reported_snp"], dstack.claims["tcb_current_snp"]) == (23, 24)
    assert str(dstack.claims["host_data"]).startswith("783f0057820acb99")


def test_no_flipped_bit_in_a_real_report_keeps_what_passed(read_report: Any, read_collateral: Any):
    """Every byte of every report, another bit each: it does not parse, or a check fails that did not fail before."""
    from strongroom.errors import MalformedEvidence

    for report, leaf, chain in REPORTS.values():
        data, collateral = read_report(report), read_collateral(leaf, chain)
        now = noon("2025-06-01") if "vlek" in leaf else noon("2026-07-01")
        for position in range(0, len(data), 5):
            changed = bytearray(data)
            changed[position] ^= 1 << (position % 8)
            try:
                parsed = parse_report(bytes(changed))
            except MalformedEvidence:
                continue
            genuine = verify(parsed, collateral, VENDOR_ANCHORS, now)
            assert with_status(genuine, Status.FAIL), f"{report} byte {position}"
            assert genuine.claims == {}


def test_no_flipped_bit_in_a_real_certificate_keeps_what_passed(read_report: Any, read_collateral: Any):
    report, collateral = parse_report(read_report(f"{GENOA}.report.bin")), read_collateral(*REPORTS[GENOA][1:])
    for position in range(0, len(collateral.leaf), 11):
        leaf = bytearray(collateral.leaf)
        leaf[position] ^= 1 << (position % 8)
        genuine = verify(report, replace(collateral, leaf=bytes(leaf)), VENDOR_ANCHORS, noon("2026-07-01"))
        assert with_status(genuine, Status.FAIL) == CHAIN, f"leaf byte {position}"
    for position in range(0, len(collateral.chain), 37):
        chain = (
            collateral.chain[:position] + chr(ord(collateral.chain[position]) ^ 2) + collateral.chain[position + 1 :]
        )
        genuine = verify(report, replace(collateral, chain=chain), VENDOR_ANCHORS, noon("2026-07-01"))
        assert with_status(genuine, Status.FAIL) <= {"snp.anchor", "snp.chain"}, f"chain byte {position}"
        assert with_status(genuine, Status.FAIL)


def test_two_chips_with_the_certificates_of_each_other_are_refused(judged: Any):
    for mine, other in ((MILAN, DSTACK), (DSTACK, MILAN), (MILAN, MILAN_DEBUG)):
        assert with_status(judged(mine, leaf=REPORTS[other][1]), Status.FAIL) == {"snp.report.signature"}
