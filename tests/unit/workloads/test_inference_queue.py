import asyncio

import pytest

from strongroom.workloads.inference.queue import LONGEST_WAIT, Full, Line, TooMany


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("slots", "room"), [(1, 0), (4, 0), (2, 3)])
def test_all_turns_are_given_also_where_nobody_may_wait(slots, room):
    async def story() -> None:
        line, leave = Line(slots, room), asyncio.Event()

        async def one() -> None:
            async with line.turn():
                await leave.wait()

        running = [asyncio.create_task(one()) for _ in range(slots + room)]
        await asyncio.sleep(0)
        assert (line.running, line.waiting) == (slots, room)
        with pytest.raises(Full):
            line.check()
        leave.set()
        await asyncio.gather(*running)
        line.check()

    asyncio.run(story())


def test_who_wants_to_be_alone_waits_for_all_before_and_lets_go_of_what_it_has_if_it_gives_up():
    async def story() -> None:
        line, leave = Line(2, 2), asyncio.Event()
        done: list[str] = []

        async def one() -> None:
            async with line.turn():
                await leave.wait()
                done.append("turn")

        async def alone() -> None:
            async with line.alone():
                done.append("alone")

        running = [asyncio.create_task(one()) for _ in range(3)]
        await asyncio.sleep(0)
        given_up, waiting = asyncio.create_task(alone()), asyncio.create_task(alone())
        await asyncio.sleep(0)
        given_up.cancel()
        leave.set()
        await asyncio.gather(*running, waiting, given_up, return_exceptions=True)
        assert done == ["turn", "turn", "turn", "alone"]
        async with line.turn(), line.turn():
            pass

    asyncio.run(story())


def test_so_many_run_so_many_wait_and_the_next_is_told_when_to_come():
    async def story() -> None:
        clock = Clock()
        line, leave = Line(1, 2, clock), asyncio.Event()
        order: list[int] = []

        async def one(number: int) -> None:
            async with line.turn():
                order.append(number)
                await leave.wait()

        tasks = [asyncio.create_task(one(number)) for number in range(3)]
        await asyncio.sleep(0)
        assert (line.running, line.waiting) == (1, 2)
        with pytest.raises(Full) as refusal:
            line.check()
        assert (refusal.value.status, refusal.value.retry_after) == (503, 1)
        clock.now = 7.0
        leave.set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2]
        assert (line.running, line.waiting) == (0, 0)
        line.check()

    asyncio.run(story())


def test_the_pace_of_the_last_turns_says_when_to_come_back():
    async def story() -> None:
        clock = Clock()
        line = Line(2, 0, clock)
        for _ in range(40):
            async with take(line):
                clock.now += 9.0
        assert line.retry_after == 5
        for _ in range(40):
            async with take(line):
                clock.now += 9000.0
        assert line.retry_after == LONGEST_WAIT

    def take(line: Line):
        line.room = 1
        return line.turn()

    asyncio.run(story())


def test_a_named_client_takes_its_share_and_leaves_room_for_others():
    async def story() -> None:
        line, leave = Line(1, 3), asyncio.Event()

        async def one(whose: str) -> None:
            async with line.turn(whose):
                await leave.wait()

        tasks = [asyncio.create_task(one("greedy")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TooMany) as refusal:
            async with line.turn("greedy"):
                raise AssertionError
        assert refusal.value.status == 429
        line.check("modest")
        line.check()
        leave.set()
        await asyncio.gather(*tasks)
        line.check("greedy")
        assert not line._held

    asyncio.run(story())


def test_who_leaves_the_line_leaves_its_place():
    async def story() -> None:
        line, leave = Line(1, 1), asyncio.Event()

        async def one() -> None:
            async with line.turn("a"):
                await leave.wait()

        first = asyncio.create_task(one())
        await asyncio.sleep(0)
        second = asyncio.create_task(line.turn("b").__aenter__())
        await asyncio.sleep(0)
        assert line.waiting == 1
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert line.waiting == 0
        leave.set()
        await first
        async with line.turn("b"):
            assert line.running == 1

    asyncio.run(story())
