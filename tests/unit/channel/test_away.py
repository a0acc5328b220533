"""Why nobody answered: from failures that really happen on this machine."""

import asyncio
import socket
from collections.abc import Iterator

import httpx2
import pytest

from strongroom.channel.away import why


def failure(url: str, **options: object) -> httpx2.HTTPError:
    with httpx2.Client(trust_env=False, **options) as http, pytest.raises(httpx2.HTTPError) as failed:  # type: ignore[arg-type]
        http.get(url)
    return failed.value


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_where_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert why(failure(f"http://127.0.0.1:{port}")) == "connection refused"


def test_a_port_where_nobody_listens_asked_asynchronously():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    async def ask() -> str:
        async with httpx2.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx2.HTTPError) as failed:
                await http.get(f"http://127.0.0.1:{port}")
            return why(failed.value)

    assert asyncio.run(ask()) == "connection refused"


def test_somebody_who_says_nothing(silent: int):
    assert why(failure(f"http://127.0.0.1:{silent}", timeout=0.2)) == "no answer in time"


def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert why(failure("http://worker.invalid")) == "there is no such name"


def test_what_nobody_foresaw_is_named_by_its_class_and_not_by_what_a_peer_said():
    assert why(httpx2.RemoteProtocolError("canary from a peer")) == "RemoteProtocolError"
