"""Floors as a state machine: whatever is put, restarted, pruned or crashed in whatever order, nothing ever goes back."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from strongroom.collateral.cache import Cache
from strongroom.collateral.checks import Facts, Floor
from strongroom.collateral.items import Part, PlacedCrl
from strongroom.errors import CollateralStale, SignatureInvalid

LIFE = 10
PLACES, SERIES = st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y"])


def part(series, number, issued):
    return Part(f"{series},{number},{issued}".encode(), b"", "")


def check(_item, given, now):
    """A vendor of small words: a part holds for ten seconds from its issue."""
    series, number, issued = given.body.decode().split(",")
    facts = Facts(int(issued), int(issued) + LIFE, Floor(series, number, int(issued)))
    if not facts.starts <= now <= facts.ends:
        raise SignatureInvalid("not now")
    return facts


class Floors(RuleBasedStateMachine):
    @initialize(on_disk=st.booleans())
    def begin(self, on_disk):
        self.directory = Path(tempfile.mkdtemp()) if on_disk else None
        self.cache = Cache(self.directory, check)
        self.now, self.highest, self.last = 100, {}, {}

    def teardown(self):
        if getattr(self, "directory", None) is not None:
            shutil.rmtree(self.directory)

    @rule(place=PLACES, series=SERIES, number=st.integers(0, 5), age=st.integers(-2, LIFE + 2))
    def put(self, place, series, number, age):
        issued = self.now - age
        given, position = part(series, number, issued), (number, issued)
        act = lambda: self.cache.put(PlacedCrl("tpm", place, ""), given, self.now)  # noqa: E731 (said twice below)
        if not 0 <= age <= LIFE:
            with pytest.raises(SignatureInvalid):
                act()
        elif position < self.highest.get(series, (-1, 0)):
            with pytest.raises(CollateralStale):
                act()
        else:
            act()
            self.highest[series] = position
            self.last[place] = (series, position)

    @rule(seconds=st.integers(-3, LIFE))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def restart(self):
        if self.directory is not None:
            self.cache = Cache(self.directory, check)

    @rule(everything=st.booleans())
    def prune(self, everything):
        self.cache.prune(self.now, everything=everything)
        for place, (_, (_, issued)) in list(self.last.items()):
            if everything or issued + LIFE < self.now:
                del self.last[place]

    @rule()
    def lose_the_floors_file_as_after_a_kill_between_two_writes(self):
        if self.directory is not None and set(self.highest.items()) <= set(self.last.values()):
            (self.directory / "floors.json").unlink(missing_ok=True)

    @rule(place=PLACES)
    def read(self, place):
        kept = self.cache.get(PlacedCrl("tpm", place, ""), self.now)
        if kept is not None:
            assert kept.facts.starts <= self.now <= kept.facts.ends
            assert kept.facts.floor.position >= self.highest[kept.facts.floor.series]
        if place in self.last:
            series, position = self.last[place]
            if position == self.highest[series] and position[1] <= self.now <= position[1] + LIFE:
                assert kept.part == part(series, *position)

    @invariant()
    def floors_are_the_highest_that_was_ever_taken(self):
        if getattr(self, "cache", None) is not None and self.directory is None:
            assert {floor.series: floor.position for floor in self.cache.floors()} == self.highest


Floors.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestFloors = Floors.TestCase
