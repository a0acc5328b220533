"""A worker that ends TLS itself: first met unverified, then only by the key that its evidence names."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from world import SETTINGS, Served, World, world

from strongroom.channel.pinning import TlsKey
from strongroom.client.client import AsyncClient
from strongroom.client.network import Network
from strongroom.errors import ServiceUnavailable, TlsKeyMismatch
from strongroom.records.digest import digest_bytes
from strongroom.services.server import BackgroundServer

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), settings={**SETTINGS, "tls": 1}) as found:
        yield found


@pytest.fixture
def served(made: World) -> Iterator[Served]:
    with made.serving() as found:
        assert found.error is None, found.error
        yield found


def trust(made: World) -> dict[str, Any]:
    return {
        "policy": made.policy,
        "anchor": made.anchor_file,
        "broker": made.broker.identity.fingerprint,
        "accept_simulated": True,
    }


def test_a_user_talks_over_the_workers_own_tls(made: World, served: Served):
    assert served.url.startswith("https://")
    client = made.client(served.url)
    assert client.ask("hello").endswith(".")
    assert client.verification is not None
    assert client.verification.keyset.tls is not None
    assert client.openai().models.list().data[0].id == "echo"


def test_the_asynchronous_client_does_the_same(made: World, served: Served):
    async def ask() -> str:
        return await AsyncClient(served.url, **trust(made)).ask("hello")

    assert asyncio.run(ask()).endswith(".")


def test_ordinary_clients_do_not_trust_the_certificate(served: Served):
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(served.url + "/v1/models")


def test_a_worker_with_new_keys_is_verified_again_and_asked_once_more(made: World):
    with made.serving() as first:
        client, port = made.client(first.url), int(first.url.rpartition(":")[2])
        assert client.ask("hello")
        old = client.verification
    with made.serving(port=port) as second:
        assert second.url == first.url
        assert client.ask("hello")
        assert client.verification is not None
        assert old is not None
        assert client.verification.keyset.tls != old.keyset.tls


def test_somebody_elses_tls_before_the_worker_is_refused(made: World, served: Served):
    """Evidence may be relayed; a connection cannot."""
    asked: list[bytes] = []

    async def relay(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body") or message["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked.append(scope["path"].encode())
        async with httpx2.AsyncClient(verify=False) as http:
            answer = await http.request(scope["method"], served.url + scope["path"], content=body)
        await send({"type": "http.response.start", "status": answer.status_code, "headers": []})
        await send({"type": "http.response.body", "body": answer.content})

    own = TlsKey.generate(now=NOW, not_after=NOW + 60)
    with BackgroundServer(relay, tls=own.server_context()) as middle:
        client = made.client(middle.url)
        with pytest.raises(TlsKeyMismatch):
            client.ask("canary")
        assert client.verification is None
    assert asked == [b"/.well-known/strongroom/evidence"]


def test_the_worker_gone_is_said_to_be_away(made: World):
    with made.serving() as served:
        client = made.client(served.url)
        client.verify()
    with pytest.raises(ServiceUnavailable):
        client.ask("hello")


# The rules alone


class Made:
    def __init__(self, **options: Any) -> None:
        self.options = options


def test_nothing_travels_before_something_vouches():
    network = Network(Made, None)
    with pytest.raises(TlsKeyMismatch):
        _ = network.transport


def test_the_pin_is_what_the_connection_showed():
    network, key, other = Network(Made, None), digest_bytes(b"key"), digest_bytes(b"other")
    for shown in ([other], [key, other]):
        meeting = network.meet()
        meeting.shown += shown
        with pytest.raises(TlsKeyMismatch):
            network.trust(meeting, key)
    meeting = network.meet()
    meeting.shown.append(key)
    network.trust(meeting, key)
    pinned = network.transport
    assert "verify" in pinned.options
    network.trust(meeting, key)
    assert network.transport is pinned


def test_tls_that_the_evidence_does_not_name_is_checked_as_usual():
    network = Network(Made, None)
    meeting = network.meet()
    meeting.shown.append(digest_bytes(b"a load balancer's"))
    network.trust(meeting, None)
    assert network.transport.options == {}


def test_without_tls_there_is_nothing_to_pin():
    network = Network(Made, None)
    network.trust(network.meet(), digest_bytes(b"key"))
    assert network.transport.options == {}


def test_a_given_transport_is_used_for_everything():
    given = Made()
    network = Network(Made, given)
    meeting = network.meet()
    assert meeting.transport is given
    network.trust(meeting, digest_bytes(b"key"))
    assert network.transport is given
