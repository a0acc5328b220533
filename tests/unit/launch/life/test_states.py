"""The order of states, as a pure function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import UsageError
from strongroom.launch.life.states import CLIMB, above, enter, follows, reached
from strongroom.records.launched import State


@given(st.lists(st.sampled_from(State), max_size=40))
def test_no_sequence_of_wishes_leaves_a_step_out(wishes):
    path = []
    for wish in wishes:
        if follows(path[-1] if path else None, wish):
            path.append(enter(path[-1] if path else None, wish))
        else:
            with pytest.raises(UsageError):
                enter(path[-1] if path else None, wish)
    for number, state in enumerate(path):
        before = path[:number]
        if state in CLIMB[1:]:
            again = {State.ATTESTED, State.READY} if state is State.ATTESTED else set()
            assert before[-1] in {CLIMB[CLIMB.index(state) - 1], *again}, "a step was left out"
        if state is State.PREFLIGHT:
            assert not before or before[-1] is State.WIPED
        if state is State.WIPED:
            assert before[-1] is State.DRAINING
        if before and before[-1] is State.FAILED:
            assert state is State.DRAINING
        if before and before[-1] is State.DRAINING:
            assert state is State.WIPED


@given(st.sampled_from(State))
def test_everything_but_an_end_can_fail_and_be_taken_down(state):
    ended = state in {State.FAILED, State.DRAINING, State.WIPED}
    assert follows(state, State.FAILED) is not ended
    assert follows(state, State.DRAINING) is (state not in {State.DRAINING, State.WIPED})


def test_the_way_up_is_one_step_at_a_time():
    state = None
    for step in CLIMB:
        assert not reached(state, step)
        state = enter(state, above(state))
        assert state is step
        assert reached(state, step)
    for end in (State.READY, State.FAILED, State.DRAINING):
        with pytest.raises(UsageError):
            above(end)
    assert above(State.WIPED) is State.PREFLIGHT
    assert not reached(State.FAILED, State.PREFLIGHT)
