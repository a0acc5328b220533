import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from strongroom.errors import EngineUnavailable
from strongroom.workloads.inference import heartbeat
from strongroom.workloads.inference.heartbeat import with_heartbeats

NEVER = 60.0


def test_a_silent_source_has_a_pulse_and_loses_nothing():
    async def story() -> None:
        gate = asyncio.Event()

        async def source() -> AsyncGenerator[bytes]:
            yield b"a"
            await gate.wait()
            yield b"b"
            yield b"c"

        told: list[bytes | None] = []
        async for piece in with_heartbeats(source(), 0.01):
            told.append(piece)
            if told.count(None) == 3:
                gate.set()
        assert [piece for piece in told if piece is not None] == [b"a", b"b", b"c"]
        assert told[0] == b"a"
        assert told.count(None) >= 3

    asyncio.run(story())


def test_a_quick_source_has_none_and_its_error_comes_after_its_pieces():
    async def story() -> None:
        async def source() -> AsyncGenerator[bytes]:
            yield b"a"
            raise EngineUnavailable("gone")

        told = []
        with pytest.raises(EngineUnavailable):  # noqa: PT012  # the error comes where the pieces do
            async for piece in with_heartbeats(source(), NEVER):
                told.append(piece)  # noqa: PERF401  # a comprehension would lose them
        assert told == [b"a"]

    asyncio.run(story())


def test_whoever_stops_listening_ends_the_source():
    async def story() -> None:
        ended = asyncio.Event()

        async def source() -> AsyncGenerator[bytes]:
            try:
                yield b"a"
                await asyncio.sleep(NEVER)
            finally:
                ended.set()

        async with aclosing(with_heartbeats(source(), NEVER)) as pieces:
            assert await anext(pieces) == b"a"
        assert ended.is_set()

    asyncio.run(story())


def test_what_a_slow_reader_does_not_take_waits_up_to_a_bound():
    async def story() -> tuple[int, list[bytes | None]]:
        made = 0

        async def source():
            nonlocal made
            for number in range(3 * heartbeat.MAX_WAITING):
                made += 1
                yield b"%d" % number

        beats = heartbeat.with_heartbeats(source(), 60)
        first = await anext(beats)
        for _ in range(4 * heartbeat.MAX_WAITING):
            await asyncio.sleep(0)
        ahead = made
        return ahead, [first, *[piece async for piece in beats]]

    ahead, pieces = asyncio.run(story())
    assert ahead <= heartbeat.MAX_WAITING + 1
    assert pieces == [b"%d" % number for number in range(3 * heartbeat.MAX_WAITING)]
