"""Merging levels: worst status, all advisories, oldest date."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.tee.dcap.documents import STATUSES, Level
from strongroom.tee.dcap.levels import merge
from strongroom.tee.tdx.tcb import RELAUNCH, RELAUNCH_CONFIGURATION, converge

levels = st.builds(
    Level,
    status=st.sampled_from(sorted(STATUSES)),
    advisories=st.lists(st.sampled_from(["INTEL-SA-1", "INTEL-SA-2", "INTEL-SA-3"]), max_size=3).map(tuple),
    date=st.sampled_from(["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]),
)


def level(status: str) -> Level:
    return Level(status, (), "2025-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("platform", "component", "merged"),
    [
        ("UpToDate", "UpToDate", "UpToDate"),
        ("UpToDate", "OutOfDate", "OutOfDate"),
        ("SWHardeningNeeded", "UpToDate", "SWHardeningNeeded"),
        ("SWHardeningNeeded", "OutOfDate", "OutOfDate"),
        ("ConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("OutOfDate", "UpToDate", "OutOfDate"),
        ("OutOfDateConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("UpToDate", "Revoked", "Revoked"),
        ("OutOfDateConfigurationNeeded", "Revoked", "Revoked"),
    ],
)
def test_platform_and_component_converge_as_intel_defines(platform: str, component: str, merged: str):
    assert merge([level(platform), level(component)]).status == merged


@settings(max_examples=50, deadline=None)
@given(st.lists(levels, min_size=1, max_size=3))
def test_order_and_repetition_do_not_matter(found: list[Level]):
    results = {merge(order) for order in itertools.permutations(found)} | {merge(found + found)}
    assert len(results) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(levels, min_size=1, max_size=3), levels)
def test_more_parts_never_make_it_better(found: list[Level], extra: Level):
    before, after = merge(found), merge([*found, extra])
    if "UpToDate" not in {before.status, extra.status} or before.status != extra.status:
        assert after.status != "UpToDate"
    assert set(before.advisories) | set(extra.advisories) == set(after.advisories)
    assert after.date <= before.date
    if "OutOfDate" in before.status:
        assert "OutOfDate" in after.status or after.status == "Revoked"


OLD, OLD_CONFIGURATION = "OutOfDate", "OutOfDateConfigurationNeeded"


@pytest.mark.parametrize(
    ("launch", "current", "together"),
    [
        (OLD, "UpToDate", RELAUNCH),
        (OLD, "SWHardeningNeeded", RELAUNCH),
        (OLD, "ConfigurationNeeded", RELAUNCH_CONFIGURATION),
        (OLD, "ConfigurationAndSWHardeningNeeded", RELAUNCH_CONFIGURATION),
        (OLD_CONFIGURATION, "UpToDate", RELAUNCH_CONFIGURATION),
        (OLD_CONFIGURATION, "ConfigurationNeeded", RELAUNCH_CONFIGURATION),
        (OLD, OLD, OLD),
        (OLD, OLD_CONFIGURATION, OLD_CONFIGURATION),
        ("UpToDate", "UpToDate", "UpToDate"),
        ("SWHardeningNeeded", "UpToDate", "SWHardeningNeeded"),
        ("ConfigurationNeeded", "SWHardeningNeeded", "ConfigurationAndSWHardeningNeeded"),
        ("UpToDate", OLD, OLD),  # Intel's library looks at the launch alone here
    ],
)
def test_launch_and_present_converge(launch: str, current: str, together: str):
    assert converge(level(launch), level(current)).status == together
    assert converge(level(launch), None).status == launch


@settings(max_examples=50, deadline=None)
@given(levels, levels)
def test_no_advisory_is_lost_between_launch_and_present(launch: Level, current: Level):
    together = converge(launch, current)
    assert set(together.advisories) == {*launch.advisories, *current.advisories}
    assert together.date == min(launch.date, current.date)
