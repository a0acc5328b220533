"""Work for somebody who went: called off, and what came all the same is let go."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from strongroom.services.presence import while_there


def asked(gone: asyncio.Event) -> Request:
    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_who_stays_gets_the_answer():
    async def work() -> str:
        return "answer"

    async def act() -> str | None:
        return await while_there(asked(asyncio.Event()), work())

    assert asyncio.run(act()) == "answer"


def test_who_stays_gets_the_error():
    async def work() -> str:
        raise ValueError("no")

    async def act() -> None:
        await while_there(asked(asyncio.Event()), work())

    with pytest.raises(ValueError, match="no"):
        asyncio.run(act())


def test_what_comes_while_it_is_called_off_is_let_go():
    let_go: list[str] = []

    async def keep(answer: str) -> None:
        let_go.append(answer)

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return "never"

    async def act() -> str | None:
        gone = asyncio.Event()
        gone.set()
        return await while_there(asked(gone), work(), keep)

    assert asyncio.run(act()) is None
    assert let_go == ["late"]
