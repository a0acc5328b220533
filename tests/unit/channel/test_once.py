"""A request that names itself inside the seal is answered once."""

import asyncio
import json
from typing import Any

import pytest

from strongroom.channel.once import Once
from strongroom.channel.server import SEALED_FIELDS

IDENTITY = b"0123456789abcdef" * 2


class Application:
    """Answers with `status`, waiting for `gate`; fails before that where `fails`."""

    def __init__(self) -> None:
        self.calls, self.status, self.fails = 0, 200, False
        self.gate: asyncio.Event | None = None

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise RuntimeError("canary")
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})


async def ask(once: Once, *headers: tuple[bytes, bytes], fields: bool = True) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": list(headers), SEALED_FIELDS: fields}
    await once(scope, None, send)  # type: ignore[arg-type]
    return sent[0]["status"], sent[1]["body"]


NAMED = (b"strongroom-request", IDENTITY)


@pytest.fixture
def app() -> Application:
    return Application()


def test_the_second_sending_is_refused_after_the_answer_and_while_it_is_under_way(app):
    async def story() -> None:
        once, app.gate = Once(app), asyncio.Event()
        first = asyncio.create_task(ask(once, NAMED))
        await asyncio.sleep(0)
        status, body = await ask(once, NAMED)
        assert (status, json.loads(body)["error"]["code"]) == (409, "channel.replayed")
        app.gate.set()
        assert await first == (200, b"answer")
        assert (await ask(once, NAMED))[0] == 409
        assert (await ask(once, (b"strongroom-request", b"f" * 32)))[0] == 200
        assert app.calls == 2

    asyncio.run(story())


@pytest.mark.parametrize("status", [400, 429, 503])
def test_an_error_is_no_answer_and_the_request_may_come_again(app, status):
    async def story() -> None:
        once, app.status = Once(app), status
        assert (await ask(once, NAMED))[0] == status
        app.status = 200
        assert (await ask(once, NAMED))[0] == 200
        assert (await ask(once, NAMED))[0] == 409

    asyncio.run(story())


def test_a_failure_is_no_answer(app):
    async def story() -> None:
        once, app.fails = Once(app), True
        with pytest.raises(RuntimeError):
            await ask(once, NAMED)
        app.fails = False
        assert (await ask(once, NAMED))[0] == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    "headers",
    [[], [(b"strongroom-request", b"short")], [(b"strongroom-request", b"A" * 32)], [NAMED, NAMED]],
)
def test_what_names_no_request_passes_each_time(app, headers):
    async def story() -> None:
        once = Once(app)
        assert [(await ask(once, *headers))[0] for _ in range(2)] == [200, 200]

    asyncio.run(story())


def test_an_identity_in_the_clear_spends_nothing(app):
    async def story() -> None:
        once = Once(app)
        assert (await ask(once, NAMED, fields=False))[0] == 200
        assert (await ask(once, NAMED))[0] == 200

    asyncio.run(story())


def test_the_memory_is_bounded_and_makes_no_room(app):
    async def story() -> None:
        once = Once(app, capacity=1)
        assert (await ask(once, NAMED))[0] == 200
        status, body = await ask(once, (b"strongroom-request", b"f" * 32))
        assert (status, json.loads(body)["error"]["code"]) == (503, "service.busy")
        assert (await ask(once))[0] == 200

    asyncio.run(story())
