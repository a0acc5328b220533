import asyncio
import socket
from typing import Any

import httpx2

from strongroom.services.server import Server


def test_what_is_streamed_does_not_wait_for_acknowledgements():
    seen: list[int] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        transport = send.__self__.transport
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> None:
        async with Server(app, host="127.0.0.1", port=0) as server, httpx2.AsyncClient() as http:
            await http.get(server.url)

    asyncio.run(ask())
    assert seen == [1]


def test_the_parser_does_not_depend_on_what_else_is_installed():
    from strongroom.services.connections import Connection
    from strongroom.services.server import _config

    config = _config(lambda *_: None, tls=None, patience=60.0)  # type: ignore[arg-type,return-value]
    assert issubclass(config.http, Connection)
    assert config.loop == "asyncio"
