import asyncio

from strongroom.engines.inbox import Inbox


def test_what_was_put_comes_out_in_order_and_wakes_who_waits():
    async def story() -> list[int]:
        inbox, found = Inbox[int](), list[int]()

        async def take() -> None:
            while (item := await inbox.get()) >= 0:
                found.append(item)

        taking = asyncio.create_task(take())
        await asyncio.sleep(0)
        for item in (1, 2):  # two before its reader runs again
            inbox.put_nowait(item)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(inbox) == 0
        inbox.put_nowait(3)
        inbox.put_nowait(-1)
        await taking
        return found

    assert asyncio.run(story()) == [1, 2, 3]


def test_a_reader_that_went_away_is_not_woken_and_the_next_gets_everything():
    async def story() -> int:
        inbox = Inbox[int]()
        gone = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        inbox.put_nowait(7)
        return await inbox.get()

    assert asyncio.run(story()) == 7
