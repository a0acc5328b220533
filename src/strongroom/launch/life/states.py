"""Which state of a launch may follow which. Pure.

Knows: the order. Does not know: what has to be done for a step (`launcher`), or how it is written down (`journal`).
"""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.errors import UsageError
from strongroom.records.launched import State

CLIMB = (State.PREFLIGHT, State.PLANNED, State.BOOTED, State.ATTESTED, State.READY)
"""The way up: none of them is ever left out. A machine that was attested once may be attested again."""
RUNNING = frozenset({State.BOOTED, State.ATTESTED, State.READY})
"""States in which there must be a machine."""
AWAY = frozenset({State.FAILED, State.DRAINING})
FOLLOWS: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.PREFLIGHT}),
    State.PREFLIGHT: AWAY | {State.PLANNED},
    State.PLANNED: AWAY | {State.BOOTED},
    State.BOOTED: AWAY | {State.ATTESTED},
    State.ATTESTED: AWAY | {State.READY, State.ATTESTED},
    State.READY: AWAY | {State.ATTESTED},
    State.FAILED: frozenset({State.DRAINING}),
    State.DRAINING: frozenset({State.WIPED}),
    State.WIPED: frozenset({State.PREFLIGHT}),
}


def follows(before: State | None, after: State) -> bool:
    """Whether `after` may be entered from `before`; None is before everything."""
    return after in FOLLOWS[before]


def enter(before: State | None, after: State) -> State:
    """`after`, if it may follow. Raises `UsageError`."""
    if not follows(before, after):
        raise UsageError(f"a launch does not go from {before or 'nothing'} to {after}")
    return after


def above(state: State | None) -> State:
    """The next step up. Raises `UsageError` where there is none."""
    if state in {None, State.WIPED}:
        return State.PREFLIGHT
    if state not in CLIMB[:-1]:
        raise UsageError(f"nothing is above {state}")
    return CLIMB[CLIMB.index(state) + 1]


def reached(state: State | None, wanted: State) -> bool:
    """Whether a launch in `state` has come as far as `wanted`, and is still there."""
    return state in CLIMB and CLIMB.index(state) >= CLIMB.index(wanted)
