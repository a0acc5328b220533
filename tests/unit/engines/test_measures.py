import errno
import os

import pytest

from strongroom.engines.confine import Confinement
from strongroom.engines.measures import NOT_REPORTED, Attempts
from strongroom.errors import ConfinementUnavailable

ALL = dict.fromkeys(Confinement.NAMES, "yes")


def test_all_measures_achieved_satisfy_production():
    Confinement(ALL).require()


@pytest.mark.parametrize("name", Confinement.NAMES)
def test_one_missing_measure_is_named_and_refused(name: str):
    report = Confinement(ALL | {name: "the kernel forbids it"})
    assert report.missing == {name: "the kernel forbids it"}
    with pytest.raises(ConfinementUnavailable) as refusal:
        report.require()
    assert refusal.value.detail == f"{name}: the kernel forbids it"


def test_a_measure_that_nobody_reported_is_missing():
    assert set(Confinement({}).missing.values()) == {NOT_REPORTED}
    with pytest.raises(ConfinementUnavailable):
        Confinement({}).require()


@pytest.mark.parametrize("report", [None, [], "yes", {"seccomp": True}, {"seccomp": None}])
def test_a_report_of_another_shape_is_refused(report: object):
    with pytest.raises(ConfinementUnavailable):
        Confinement.from_report(report)


def test_names_that_are_no_measures_are_dropped_from_a_report():
    assert Confinement.from_report(ALL | {"else": "yes"}) == Confinement(ALL)


def test_a_step_that_fails_leaves_its_reason_and_the_next_is_tried():
    attempts = Attempts()
    assert not attempts.attempt("first", lambda: os.open("/nowhere/at/all", os.O_RDONLY))
    assert attempts.attempt("second", lambda: None)
    assert attempts.outcomes == {"first": os.strerror(errno.ENOENT), "second": "yes"}
