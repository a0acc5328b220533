"""Comparing: the factor's direction, its interval, and what is not compared in silence."""

import random
from xml.dom import minidom

import pytest
from platforms import CODE, PLAIN, PROTECTED, SETTINGS, saved

from strongroom.bench.platform.compare import compare, cost
from strongroom.bench.platform.plot import COLUMNS, bar, svg
from strongroom.bench.platform.saved import measured
from strongroom.errors import UsageError


def drawn(text, name):
    """The elements of that name in a picture of our own making."""
    return minidom.parseString(text).getElementsByTagName(name)  # noqa: S318


def test_a_quarter_more_time_is_a_factor_of_one_and_a_quarter_whichever_way_is_good():
    found = compare(saved(), saved(factor=1.25, environment=PROTECTED))
    assert [each.factor for each in found.costs] == [pytest.approx(1.25, abs=1e-3)] * 2
    assert {each.verdict for each in found.costs} == {"slower"}
    for each in found.costs:
        assert each.interval[0] <= each.factor <= each.interval[1]
    assert found.costs[0].plain > found.costs[0].protected
    assert found.costs[1].plain < found.costs[1].protected
    assert not found.differences + found.remarks + found.alone


def test_what_is_faster_is_said_to_be():
    assert {each.verdict for each in compare(saved(), saved(factor=0.5)).costs} == {"faster"}


def test_the_same_run_twice_shows_no_difference():
    found = compare(saved(), saved())
    assert {(each.factor, each.verdict) for each in found.costs} == {(1.0, "no difference seen")}


def test_noise_is_no_difference():
    noise = [10.0, 20.0, 5.0, 12.0, 9.0, 15.0, 7.0, 11.0]
    one = measured("x", "s", "less", "w", noise)
    other = measured("x", "s", "less", "w", [sample * 1.1 for sample in noise])
    found = cost(one, other)
    assert found.factor == pytest.approx(1.1, abs=1e-3)
    assert found.verdict == "no difference seen"


def test_the_interval_holds_the_true_factor_nearly_always():
    chance, held = random.Random(7), 0
    for _ in range(30):
        plain, protected = ([chance.gauss(mean, 1) for _ in range(20)] for mean in (10, 12))
        low, high = cost(measured("x", "s", "less", "w", plain), measured("x", "s", "less", "w", protected)).interval
        held += low <= 1.2 <= high
    assert held >= 24


def test_the_same_files_give_the_same_comparison():
    assert compare(saved(), saved(factor=1.1)) == compare(saved(), saved(factor=1.1))


@pytest.mark.parametrize(
    "changes",
    [
        {"code": CODE | {"python": "3.12.0"}},
        {"code": CODE | {"benchmark": "sha256:11"}},
        {"code": CODE | {"torch": "2.13"}},
        {"settings": SETTINGS | {"copy_mib": 256}},
        {"settings": {"copy_mib": 512}},
    ],
    ids=str,
)
def test_other_code_or_settings_are_refused_unless_asked_for_and_then_named(changes):
    with pytest.raises(UsageError, match="not of the same code and settings"):
        compare(saved(), saved(**changes))
    found = compare(saved(), saved(**changes), anyway=True)
    assert len(found.differences) == 1
    assert found.as_json()["differences"] == list(found.differences)


@pytest.mark.parametrize("changes", [{"unit": "MB/s"}, {"what": "something else"}], ids=str)
def test_one_name_for_two_things_is_refused_even_then(changes):
    with pytest.raises(UsageError, match="different things"):
        compare(saved(), saved(**changes), anyway=True)


def test_what_the_machines_say_of_themselves_is_remarked_upon():
    assert compare(saved(), saved(environment=PLAIN)).remarks == (
        "the run that is called protected saw no TEE where it was",
    )
    swapped = compare(saved(environment=PROTECTED), saved())
    assert any("called plain says that it was in a TEE (snp)" in text for text in swapped.remarks)
    other = compare(saved(), saved(environment=PROTECTED | {"kernel": "6.19"}))
    assert other.remarks == ("the machines differ in kernel: 6.17 and 6.19",)


@pytest.mark.parametrize(
    ("load", "cpus", "busy"),
    [("8.15", "2", True), ("1.1", "2", True), ("0.9", "2", False), ("unknown", "2", False), ("9", "unknown", False)],
)
def test_a_machine_that_was_busy_is_remarked_upon(load, cpus, busy):
    found = compare(
        saved(environment=PLAIN | {"load": load, "cpus": cpus}), saved(environment=PROTECTED | {"cpus": cpus})
    )
    assert any("the plain run was busy" in text for text in found.remarks) is busy
    assert not any("differ in load" in text for text in found.remarks)


def test_what_only_one_has_is_named():
    found = compare(saved(without={"memory.copy"}), saved())
    assert found.alone == ("memory.copy",)
    assert [each.id for each in found.costs] == ["kernel.call"]


def test_the_plot_is_well_formed_and_holds_every_figure():
    found = compare(saved(), saved(factor=1.5))
    picture = svg(found)
    words = [each.firstChild.data for each in drawn(picture, "text")]
    assert {"memory.copy", "kernel.call"} <= set(words)
    bars = [each for each in drawn(picture, "rect") if each.hasAttribute("x")]
    assert {each.getAttribute("fill") for each in bars} == {"#b3402a"}
    assert len(bars) == 2
    width = float(drawn(picture, "svg")[0].getAttribute("width"))
    for each in bars:
        start = float(each.getAttribute("x"))
        assert 0 <= start <= start + float(each.getAttribute("width")) <= width


def test_a_name_that_looks_like_markup_stays_text():
    found = compare(saved(code=CODE), saved())
    object.__setattr__(found, "plain", "<script>&")
    assert "<script>" not in svg(found)
    assert drawn(svg(found), "svg")


def test_bars_go_left_for_faster_and_right_for_slower():
    slow, fast = compare(saved(), saved(factor=2)).costs, compare(saved(), saved(factor=0.5)).costs
    left, right = bar(slow[0], slow).split("│")
    assert not left.strip()
    assert right.strip()
    left, right = bar(fast[0], fast).split("│")
    assert left.strip()
    assert not right.strip()
    assert len(bar(slow[0], slow)) == COLUMNS + 1


def test_runs_without_a_common_figure_still_make_a_plot():
    found = compare(saved(without={"memory.copy", "kernel.call"}), saved())
    assert drawn(svg(found), "svg")
