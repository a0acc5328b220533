import pytest

from strongroom.bench.figures import figure, machine


def made(samples, goal):
    return figure("x", samples, unit="ratio", baseline="b", goal=goal)


def test_the_median_and_its_interval_hold_the_samples():
    found = made([0.99, 1.0, 1.01] * 10, (">=", 0.97))
    assert found.value == 1.0
    assert found.interval[0] <= found.value <= found.interval[1]
    assert found.verdict == "met"


@pytest.mark.parametrize(
    ("samples", "goal", "verdict"),
    [
        ([0.99] * 30, (">=", 0.97), "met"),
        ([0.9] * 30, (">=", 0.97), "missed"),
        ([0.9, 1.04] * 15, (">=", 0.97), "not resolved"),
        ([3.0] * 30, ("<=", 5.0), "met"),
        ([7.0] * 30, ("<=", 5.0), "missed"),
        ([1.0, 9.0] * 15, ("<=", 5.0), "not resolved"),
    ],
)
def test_a_goal_inside_the_interval_is_not_resolved_and_that_is_no_pass(samples, goal, verdict):
    assert made(samples, goal).verdict == verdict


def test_the_same_samples_give_the_same_figure():
    samples = [1.0, 2.0, 3.0, 10.0]
    assert made(samples, (">=", 1)) == made(samples, (">=", 1))


def test_the_machine_is_named():
    assert "cores" in machine()
