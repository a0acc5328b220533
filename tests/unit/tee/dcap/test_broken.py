"""For every check one piece of evidence that fails it and nothing else; what needs it is then not-run."""

from __future__ import annotations

from typing import Any

import pytest
from dcap_world import JUDGES, NOW, Place, failures, make_place

from strongroom.records.verdict import Status, all_passed
from strongroom_sim.broken import sgx, tdx

BROKEN = {"tdx": tdx.broken, "sgx": sgx.broken}
PLACES = {kind: make_place(kind) for kind in BROKEN}
CASES = {kind: make(PLACES[kind].installation, NOW) for kind, make in BROKEN.items()}


def judged(place: Place, case: Any) -> Any:
    return JUDGES[place.kind](case.quote, case.collateral, [place.anchor], case.now)


@pytest.mark.parametrize(("kind", "check"), [(kind, check) for kind, cases in CASES.items() for check in cases])
def test_it_fails_exactly_this_check(kind: str, check: str):
    genuine = judged(PLACES[kind], CASES[kind][check])
    assert failures(genuine) == {check}
    assert not all_passed(genuine.checks)
    for other in genuine.checks:
        if other.status is Status.NOT_RUN:
            assert other.detail.startswith("needs ")


@pytest.mark.parametrize("kind", BROKEN)
def test_there_is_one_for_every_check(kind: str):
    place = PLACES[kind]
    checks = place.judge(place.quote).checks
    assert all_passed(checks)
    assert sorted(check.id for check in checks) == sorted(CASES[kind])


@pytest.mark.parametrize("kind", BROKEN)
def test_whatever_fails_all_checks_are_listed_in_the_same_order(kind: str):
    place = PLACES[kind]
    order = [check.id for check in place.judge(place.quote).checks]
    for case in CASES[kind].values():
        assert [check.id for check in judged(place, case).checks] == order
