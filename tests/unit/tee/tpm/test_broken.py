"""For each check there is evidence that fails it and nothing else; with all of it right, every check passes."""

from __future__ import annotations

from typing import Any

from strongroom.appraisal.kinds.tpm import TPM
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom.records.verdict import RootClass, Status
from strongroom.tee.tpm import read_quote, verify
from strongroom_sim.broken.tpm import broken, enrolled
from strongroom_sim.conformance import Sample, Subject, findings


def good_checks(place: Any) -> list[str]:
    certified = place.judge(place.good)
    by_note = place.judge(place.good, enrolled(place.tpm, place.verifier, place.now))
    assert certified.holds
    assert by_note.holds
    return [check.id for check in (*certified.checks, *by_note.checks)]


def test_check_ids_are_stable_and_in_order(place: Any):
    assert [check.id for check in place.judge(place.good).checks] == [
        "tpm.ak",
        "tpm.anchor",
        "tpm.ak.chain",
        "tpm.ak.crl",
        "tpm.ak.certificate",
        "tpm.ak.attributes",
        "tpm.ak.scheme",
        "tpm.quote.scheme",
        "tpm.quote.signature",
        "tpm.quote.magic",
        "tpm.quote.signer",
        "tpm.pcrs.bank",
        "tpm.pcrs.selection",
        "tpm.pcrs.digest",
    ]


def test_each_check_has_evidence_that_fails_it_alone(place: Any):
    samples = broken(place.maker, place.verifier, place.now)
    assert samples.keys() == set(good_checks(place))
    for identifier, sample in samples.items():
        genuine = place.judge(sample.quote, sample.collateral, now=sample.now)
        found = {check.id for check in genuine.checks if check.status is Status.FAIL}
        assert found == {identifier}, (identifier, found)
        reason = {check.id: check.detail for check in genuine.checks if check.status is Status.NOT_RUN}
        assert all(detail.startswith("needs tpm.") for detail in reason.values()), (identifier, reason)


def test_nothing_is_claimed_for_a_key_that_nobody_vouches_for(place: Any):
    genuine = verify(read_quote(place.good), None, place.anchors, place.now)
    assert {check.id for check in genuine.checks if check.status is Status.FAIL} == {"tpm.ak"}
    assert genuine.claims == {}
    assert genuine.root_class is None
    assert place.judge(place.good).root_class is RootClass.INSTALLATION


def test_the_kind_conforms(place: Any):
    def sample(quote: bytes, collateral: Any, now: int) -> Sample:
        return Sample(quote, Collateral(tpm=collateral), now)

    bad = broken(place.maker, place.verifier, place.now)
    certified = {identifier: sample(*entry) for identifier, entry in bad.items() if identifier != "tpm.ak.enrolment"}
    good = sample(codec.encode(place.good), place.collateral, place.now)
    assert findings(Subject(TPM, place.anchors, good, certified)) == []
