"""For each check one piece of evidence that fails it and no other; what needs it is then not-run."""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.records.verdict import Status, all_passed
from strongroom.tee.snp import parse_report, verify
from strongroom_sim.broken.snp import Broken, broken

CHECKS = (
    "snp.collateral",
    "snp.report.algorithm",
    "snp.report.reserved",
    "snp.report.vmpl",
    "snp.anchor",
    "snp.chain",
    "snp.crl",
    "snp.leaf",
    "snp.product",
    "snp.report.signer",
    "snp.report.signature",
    "snp.leaf.chip",
    "snp.leaf.tcb",
    "snp.tcb.committed",
    "snp.tcb.reported",
)


@pytest.fixture(scope="session")
def all_broken(place: Any) -> dict[str, Broken]:
    return dict(broken(place.installation, place.now))


def test_a_good_verification_makes_every_check_and_each_has_its_broken_evidence(place: Any, all_broken: Any):
    genuine = place.judge(place.chip.report(bytes(64)))
    assert all_passed(genuine.checks)
    assert tuple(check.id for check in genuine.checks) == CHECKS
    assert set(all_broken) == set(CHECKS)


@pytest.mark.parametrize("identifier", CHECKS)
def test_broken_evidence_fails_exactly_its_check(place: Any, all_broken: dict[str, Broken], identifier: str):
    case = all_broken[identifier]
    genuine = verify(parse_report(case.evidence), case.collateral, [place.anchor], case.now)
    assert tuple(check.id for check in genuine.checks) == CHECKS
    assert {check.id for check in genuine.checks if check.status is Status.FAIL} == {identifier}
    for check in genuine.checks:
        if check.status is Status.NOT_RUN:
            assert check.detail.startswith("needs "), check
