"""The run-time register says which events happened, and in which order."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.records.evidence import Event
from strongroom.tee.tdx import replay

events = st.lists(st.builds(Event, name=st.text(max_size=8), value=st.text(max_size=8)), max_size=5)


def test_no_event_leaves_zeros():
    assert replay([]) == bytes(48)


def test_one_event_is_one_extension():
    event = Event("workload", "inference")
    assert replay([event]) == hashlib.sha384(bytes(48) + event.measurement).digest()


@settings(max_examples=50, deadline=None)
@given(events, events)
def test_two_histories_share_a_register_only_if_they_are_equal(one: list[Event], other: list[Event]):
    assert (replay(one) == replay(other)) is (one == other)
