"""dcap-qvl on everything that we judge: real evidence, and thousands of mutations of it. Each difference has its reason.

`STRONGROOM_MUTATIONS` says how many mutations are tried (2000), `STRONGROOM_SEED` which ones (0). Half are real quotes and
collateral with a change that nobody signed; half are simulated evidence, changed and then signed anew.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dcap_world import NOW

from strongroom_sim import Installation

MUTATIONS = int(os.environ.get("STRONGROOM_MUTATIONS", "2000"))
SEED = int(os.environ.get("STRONGROOM_SEED", "0"))


@pytest.fixture(scope="module")
def beside() -> Iterator[Any]:
    """The two helpers beside this file, which are no packages."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    import differences
    import mutations

    yield mutations, differences
    sys.path.remove(folder)


def test_on_real_evidence_both_agree(vectors: Path, beside: Any):
    mutations, differences = beside
    cases = mutations.real(vectors)
    for case in cases:
        mine, peer = differences.ours(case), differences.theirs(case)
        assert mine.status is not None, str(case)
        assert (mine.status, mine.advisories) == (peer.status, peer.advisories)


def test_real_evidence_that_nobody_signed_anew_differs_only_for_a_reason(vectors: Path, beside: Any):
    mutations, differences = beside
    cases, chance = mutations.real(vectors), random.Random(SEED)
    found = [mutations.plain(cases, chance) for _ in range(MUTATIONS // 2)]
    assert [finding for case in found for finding in differences.unexplained(case)] == []


def test_of_real_evidence_that_nobody_signed_anew_none_is_accepted_that_says_something_else(vectors: Path, beside: Any):
    mutations, differences = beside
    cases, chance = mutations.real(vectors), random.Random(SEED)
    known = {case.quote for case in cases}
    for _ in range(MUTATIONS // 2):
        case = mutations.plain(cases, chance)
        accepted = differences.ours(case).status is not None
        assert not accepted or case.quote in known, str(case)


def test_simulated_evidence_signed_anew_differs_only_for_a_reason(beside: Any):
    mutations, differences = beside
    places, chance = {kind: Installation.ephemeral(NOW) for kind in ("tdx", "sgx")}, random.Random(SEED)
    found = [mutations.forged(places, chance) for _ in range(MUTATIONS - MUTATIONS // 2)]
    assert [finding for case in found for finding in differences.unexplained(case)] == []
    opinions = [differences.ours(case).status for case in found]
    assert {"UpToDate", "OutOfDate", None} <= set(opinions)
