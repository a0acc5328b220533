"""The arithmetic of `bench inference`, its stand-in for an engine, and one short run of what it counts."""

import json
from types import SimpleNamespace

import pytest

from strongroom.bench import inference, streams, talker, tng
from strongroom.bench.inference import Run, measure
from strongroom.errors import Unavailable


def test_rounds_take_turns_and_only_ours_is_judged():
    order: list[str] = []

    def arm(name: str, first: float, total: float) -> SimpleNamespace:
        def run(tokens: int) -> Run:
            order.append(name)
            return Run(tokens, first, total)

        return SimpleNamespace(run=run)

    own, ours, other = arm("own", 0.010, 1.0), arm("ours", 0.012, 1.0), arm("other", 0.1, 2.0)
    seen: list[tuple[int, int]] = []
    found = measure(
        own, {"inference": ours, "inference.tng": other}, pairs=3, tokens=8, progress=lambda *at: seen.append(at)
    )
    assert [figure.id for figure in found] == [
        "inference.tokens_per_second.ratio", "inference.first_token.added",
        "inference.tng.tokens_per_second.ratio", "inference.tng.first_token.added",
    ]  # fmt: skip
    assert [figure.value for figure in found] == [1.0, pytest.approx(2.0), 0.5, pytest.approx(90.0)]
    assert {figure.verdict for figure in found} == {"met"}
    rounds = order[3 * inference.WARM_UP :]
    assert [rounds[i : i + 3] for i in (0, 3, 6)] == [
        ["own", "ours", "other"], ["ours", "other", "own"], ["other", "own", "ours"],
    ]  # fmt: skip
    assert seen[-1] == (3, 3)


def test_what_the_stand_in_says_is_a_function_of_the_prompt():
    words = list(talker.words_of("a", 100))
    assert len(words) == 100
    assert words[:40] == list(talker.words_of("a", 40))
    assert words != list(talker.words_of("b", 100))
    asked = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
    (whole,) = talker.pieces("chat.completions", asked)
    assert json.loads(whole)["choices"][0]["message"]["content"] == "".join(words[:5])
    *told, ended, usage = [json.loads(piece) for piece in talker.pieces("chat.completions", {**asked, "stream": True})]
    assert [piece["choices"][0]["delta"]["content"] for piece in told] == words[:5]
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == 5


def test_a_missing_tng_is_named_and_a_tunnel_through_it_refused(monkeypatch):
    monkeypatch.setattr(tng, "program", lambda: None)
    assert inference.skipped() == ["inference.tng: missing program: tng (pip install tng-sdk)"]
    with pytest.raises(Unavailable, match="missing program"), tng.tunnel(1):
        pass


def test_a_short_run_with_few_streams_counts_and_every_answer_is_right(monkeypatch):
    monkeypatch.setattr(streams, "STREAMS", 4)
    monkeypatch.setattr(streams, "TOKENS", 16)
    (found,) = streams.streams(runs=2, progress=lambda _done, _all: None)
    assert (found.id, found.runs) == ("inference.gateway_cpu", 2)
    assert found.value > 0


def test_an_answer_that_is_not_the_prompts_is_noticed(monkeypatch):
    monkeypatch.setattr(streams, "STREAMS", 1)
    monkeypatch.setattr(streams, "TOKENS", 4)
    monkeypatch.setattr(streams, "words_of", lambda _prompt, _count: iter(["other"]))
    with pytest.raises(Unavailable, match="wrong"):
        streams.streams(runs=1, progress=lambda _done, _all: None)
