"""Counting what shows: known streams with known answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.bench import padding
from strongroom.bench.padding import FRAME, Event, entropy, figures_of, leak, messages
from strongroom.channel.pacing import Pacing


def answer(lengths: list[int], gap: float = 0.01) -> list[Event]:
    return [Event(length, 5.0 + number * gap) for number, length in enumerate(lengths)]


def test_entropy():
    assert entropy([1] * 100) == 0
    assert entropy(["a", "b"] * 1000) == pytest.approx(1.0, abs=0.001)
    assert entropy(list(range(8))) == 3  # never more than the samples can tell
    assert entropy([0] * 900 + [1] * 100) == pytest.approx(0.469, abs=0.002)


def test_each_event_at_once_is_a_message_of_whole_buckets():
    sent = messages(answer([1, 256, 257]), Pacing(256))
    assert [message.length - FRAME for message in sent] == [256, 256, 512]
    bare = messages(answer([1, 256, 257]), None)
    assert [message.length - FRAME for message in bare] == [1, 256, 257]


def test_ticks_join_what_came_meanwhile_but_never_the_first():
    sent = messages(answer([100] * 8), Pacing(64, 50))
    assert [round((message.at - 5.0) * 1000) for message in sent] == [0, 50, 100]
    assert [message.length - FRAME for message in sent] == [128, 512, 256]


def test_padding_hides_lengths_and_ticks_hide_gaps():
    talkative = [[Event(200 + n % 7, n * 0.01 + (n * n % 5) / 1000) for n in range(50)] for _ in range(4)]
    bare, padded, paced = (leak(talkative, pacing) for pacing in (None, Pacing(256), Pacing(256, 100)))
    assert bare.frame > 2.5
    assert bare.timing > 1
    assert padded.frame == 0
    assert padded.timing == bare.timing
    assert padded.added == pytest.approx((256 + FRAME) / (203 + FRAME) - 1, abs=0.01)
    assert paced.timing < 0.1
    assert paced.added < 0


def test_the_total_tells_long_answers_from_short_ones():
    answers = [answer([200] * length) for length in (10, 20, 30, 40)]
    assert leak(answers, Pacing(256)).total == 2


@given(st.lists(st.lists(st.integers(1, 2000), min_size=1, max_size=20), min_size=1, max_size=5))
def test_no_setting_shows_less_than_nothing_or_more_than_all(lengths: list[list[int]]):
    answers = [answer(one) for one in lengths]
    for pacing in (None, *padding.SETTINGS):
        seen = leak(answers, pacing)
        assert 0 <= seen.frame <= math.log2(max(2, sum(map(len, lengths)))) + 1e-9
        assert seen.timing >= 0
        assert 0 <= seen.total <= math.log2(max(2, len(lengths))) + 1e-9


def test_the_figures_judge_what_a_worker_does_by_default():
    found = {figure.id: figure for figure in figures_of([answer([230] * 30)] * 3)}
    assert found["padding.256b.0ms.frame"].verdict == "met"
    assert found["padding.256b.0ms.added_bytes"].goal == ("<=", 0.2)
    assert found["padding.512b.0ms.added_bytes"].value > 0.2
    assert found["padding.512b.0ms.added_bytes"].verdict == "met"  # measured, not judged
    dear = {figure.id: figure for figure in figures_of([answer([130] * 30)] * 3)}
    assert dear["padding.256b.0ms.added_bytes"].verdict == "missed"
