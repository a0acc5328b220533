"""Every kind of evidence conforms; and a kind that does not is found out, rule by rule."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.appraisal.kinds import KINDS
from strongroom.records.evidence import Collateral
from strongroom.records.verdict import RootClass, passed
from strongroom.tee.genuine import Genuine
from strongroom_sim import Installation, conformance
from strongroom_sim.cca import CcaPlatform
from strongroom_sim.conformance import Subject, findings
from strongroom_sim.nitro import NitroCloud
from strongroom_sim.snp import SnpInstallation
from strongroom_sim.subjects import Hardware, subjects
from strongroom_sim.tpm import TpmMaker

NOW = 1_790_000_000


@pytest.fixture(scope="module")
def hardware(tmp_path_factory: pytest.TempPathFactory) -> Hardware:
    place: Path = tmp_path_factory.mktemp("hardware")
    return Hardware(
        Installation.create(place / "intel", now=NOW),
        SnpInstallation.generate(now=NOW),
        TpmMaker.generate(now=NOW),
        NitroCloud.create(now=NOW),
        CcaPlatform(),
        NOW,
    )


@pytest.fixture(scope="module")
def every(hardware: Hardware) -> dict[str, Subject]:
    return subjects(hardware)


def test_every_kind_has_a_subject(every: dict[str, Subject]):
    assert every.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_conforms(every: dict[str, Subject], kind: str):
    assert findings(every[kind]) == []


def credulous(*_: Any, **__: Any) -> Genuine:
    """A kind that believes everything."""
    claims = {"report_data": "00" * 64, "mrtd": "", "rtmr0": "", "rtmr1": "", "rtmr2": ""}
    return Genuine("tdx", (passed("tdx.all"),), RootClass.INSTALLATION, None, (), claims)


def forgetful(*_: Any, **__: Any) -> Genuine:
    """A kind that checks nothing, which must never look like success."""
    return Genuine("tdx", (), None, None, (), {})


def fragile(quote: bytes, *_: Any, **__: Any) -> Genuine:
    """A kind whose parser is not total."""
    return credulous() if quote[1] == 0 else [][len(quote)]


@pytest.mark.parametrize(
    ("judge", "rules"),
    [
        (
            credulous,
            [
                conformance.each_check_can_fail_alone,
                conformance.nothing_is_claimed_without_a_root,
                conformance.time_matters,
                conformance.missing_collateral_never_passes,
                conformance.mutations_are_refused,
            ],
        ),
        (forgetful, [conformance.good_evidence_passes, conformance.each_check_can_fail_alone]),
        (fragile, [conformance.mutations_are_refused]),
    ],
)
def test_a_kind_that_does_not_conform_is_found_out(every: dict[str, Subject], judge: Any, rules: Sequence[Any]):
    bad = replace(every["tdx"], kind=replace(KINDS["tdx"], judge=judge))
    found = findings(bad)
    for rule in rules:
        assert any(finding.startswith(rule.__name__) for finding in found), rule.__name__


def test_a_check_without_broken_evidence_is_found_out(every: dict[str, Subject]):
    subject = every["tdx"]
    fewer = {name: sample for name, sample in subject.broken.items() if name != "tdx.quote.signature"}
    assert any("tdx.quote.signature" in finding for finding in findings(replace(subject, broken=fewer), mutations=0))


def test_broken_evidence_that_is_not_broken_is_found_out(every: dict[str, Subject]):
    subject = every["nitro"]
    whole = {**subject.broken, "nitro.signature": subject.good}
    assert any(
        "nitro.signature fails []" in finding for finding in findings(replace(subject, broken=whole), mutations=0)
    )


def test_collateral_that_is_missing_is_the_empty_record(every: dict[str, Subject]):
    assert not every["tdx"].judge(replace(every["tdx"].good, collateral=Collateral())).holds
