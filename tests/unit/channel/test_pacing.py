"""Pacing: nothing lost, nothing out of order, the first at once, ticks of one clock, ends and failures as they came."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.channel import pacing
from strongroom.channel.pacing import Pacing, paced


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when everybody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(work())


class Source:
    """Items after pauses (milliseconds); then perhaps an error."""

    def __init__(self, pauses: list[int], error: Exception | None = None) -> None:
        self.pauses, self.error, self.closed, self.given = pauses, error, False, 0

    async def __call__(self) -> AsyncGenerator[int]:
        try:
            for number, pause in enumerate(self.pauses):
                await asyncio.sleep(pause / 1000)
                self.given += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


def times(source: Source, flush_ms: int) -> list[tuple[int, list[int]]]:
    """When (milliseconds from the start) which items came together."""

    async def collect() -> list[tuple[int, list[int]]]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        return [(round((loop.time() - began) * 1000), items) async for items in paced(source(), flush_ms)]

    found: list[tuple[int, list[int]]] = run(collect)
    assert source.closed
    return found


def test_without_a_clock_each_comes_at_once():
    assert times(Source([5, 5, 0]), 0) == [(5, [0]), (10, [1]), (10, [2])]


def test_the_first_comes_at_once_and_the_others_by_ticks_from_it():
    assert times(Source([7, 10, 10, 40, 91]), 50) == [(7, [0]), (57, [1, 2]), (107, [3]), (207, [4])]


@settings(max_examples=60, deadline=None)
@given(pauses=st.lists(st.integers(0, 200), max_size=30), flush_ms=st.sampled_from([1, 20, 50, 333]))
def test_nothing_is_lost_and_all_but_the_first_is_on_ticks(pauses: list[int], flush_ms: int):
    found = times(Source(pauses), flush_ms)
    assert [item for _, items in found for item in items] == list(range(len(pauses)))
    if found:
        assert found[0][0] == pauses[0]
        assert all((at - pauses[0]) % flush_ms == 0 for at, _ in found)
        assert all(items for _, items in found)


@pytest.mark.parametrize("flush_ms", [0, 50])
def test_a_failure_comes_after_what_came_before_it(flush_ms: int):
    async def collect(source: Source, found: list[int]) -> None:
        async for items in paced(source(), flush_ms):
            found += items

    for pauses in ([], [1], [1, 1, 1]):
        source, found = Source(pauses, ValueError("the engine")), list[int]()
        with pytest.raises(ValueError, match="the engine"):
            run(lambda source=source, found=found: collect(source, found))  # type: ignore[misc]
        assert found == list(range(len(pauses)))
        assert source.closed


@pytest.mark.parametrize("flush_ms", [0, 50])
def test_whoever_leaves_early_closes_the_source(flush_ms: int):
    async def leave(source: Source) -> None:
        stream = paced(source(), flush_ms)
        assert await anext(stream) == [0]
        await stream.aclose()
        assert source.closed

    run(lambda: leave(Source([1] * 100)))


def test_a_slow_reader_slows_the_source():
    async def dawdle(source: Source) -> None:
        stream = paced(source(), 50)
        await anext(stream)
        await asyncio.sleep(1000)
        assert source.given <= pacing.MAX_WAITING + 1
        found = [item async for items in stream for item in items]
        assert found == list(range(1, 2000))

    run(lambda: dawdle(Source([1] * 2000)))


@pytest.mark.parametrize(("bucket", "flush_ms"), [(0, 0), (100, 0), (8192, 0), (512, -1), (512, 5001)])
def test_what_is_no_pacing(bucket: int, flush_ms: int):
    with pytest.raises(ValueError, match="pacing"):
        Pacing(bucket, flush_ms)
