"""A slot's content is found again by whoever left it there, and by nobody else, whatever goes wrong between."""

import contextlib
import threading

from hypothesis import given
from hypothesis import strategies as st

from strongroom.engines.slots import Slots


def use(slots: Slots, namespace: str, *, fail: bool = False) -> tuple[int, bool]:
    with contextlib.suppress(KeyError), slots.held(namespace) as held:
        if fail:
            raise KeyError
    return held


def test_who_left_something_finds_it_and_nobody_else_does():
    slots = Slots(2)
    slot, own = use(slots, "a")
    assert not own
    assert use(slots, "a") == (slot, True)
    assert use(slots, "b")[1] is False
    assert use(slots, "a") == (slot, True), "there was another slot for b"


def test_one_slot_changes_hands_and_forgets():
    slots = Slots(1)
    assert [use(slots, who)[1] for who in ("a", "a", "b", "a", "b", "b")] == [False, True, False, False, False, True]


def test_nobodys_namespace_finds_nothing_and_leaves_nothing():
    slots = Slots(1)
    assert [use(slots, who)[1] for who in ("", "", "a", "", "a")] == [False] * 5


def test_after_a_failure_a_slot_is_nobodys():
    """The failed request may never have reached the engine, so that another's words may still lie there."""
    slots = Slots(1)
    use(slots, "a")
    use(slots, "b", fail=True)
    assert use(slots, "b")[1] is False
    use(slots, "b", fail=True)
    assert use(slots, "a")[1] is False


def test_whoever_comes_when_all_are_taken_waits():
    slots, entered = Slots(1), threading.Event()

    def other() -> None:
        with slots.held("b"):
            entered.set()

    with slots.held("a"):
        waiting = threading.Thread(target=other)
        waiting.start()
        assert not entered.wait(0.05)
    waiting.join(10)
    assert entered.is_set()


@given(
    count=st.integers(1, 4),
    story=st.lists(
        st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["end", "fail", "none"])), max_size=40
    ),
)
def test_what_is_reused_was_always_left_by_the_same(count: int, story: list[tuple[str, str]]):
    """`none`: the request failed before the engine did anything. What really lies in a slot is kept beside the table."""
    slots, lies = Slots(count), dict.fromkeys(range(count), "")
    for who, outcome in story:
        with contextlib.suppress(KeyError), slots.held(who) as (slot, own):
            assert not own or (lies[slot] == who != "")
            if outcome != "none":
                lies[slot] = who
            if outcome != "end":
                raise KeyError
