"""When a request is sent again, and when not: a real worker of the tests behind a network that fails as told."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from world import WORDS

from strongroom.channel import ehbp, v2
from strongroom.channel.once import REQUEST_HEADER
from strongroom.client.client import AsyncClient, Client
from strongroom.client.wallet import Wallet
from strongroom.crypto import blind_rsa
from strongroom.errors import ChannelKeyMismatch, ChannelRefused, ServiceUnavailable, StrongroomError, WorkerBusy
from strongroom.records.credit import CreditAnswer
from strongroom.records.fleet import FLEET_HEADER
from strongroom.records.session import EVIDENCE_PATH

ANSWER = "".join(WORDS)
Fault = Callable[[httpx2.Request, Callable[[], httpx2.Response]], httpx2.Response]


class Network(httpx2.BaseTransport):
    """Sealed requests meet the next of `faults`, while there are any; `sealed` counts them, `proofs` the questions for evidence.

    With `door`, evidence comes with the word of a front door that there are several workers.
    """

    def __init__(self, *, door: bool) -> None:
        self._inner, self._door = httpx2.HTTPTransport(), door
        self.faults: list[Fault] = []
        self.sealed = self.proofs = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.proofs += request.url.path == EVIDENCE_PATH
        if request.url.path != v2.PATH:
            answer = self._inner.handle_request(request)
            if self._door:
                answer.headers[FLEET_HEADER] = "2"
            return answer
        self.sealed += 1
        if not self.faults:
            return self._inner.handle_request(request)
        return self.faults.pop(0)(request, lambda: self._inner.handle_request(request))


class AsyncNetwork(httpx2.AsyncBaseTransport):
    """The same for the asynchronous client; what is real goes over the other's sockets."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        content = await request.aread()
        plain = httpx2.Request(request.method, request.url, headers=request.headers, content=content)
        answer = await asyncio.to_thread(self._network.handle_request, plain)
        body = await asyncio.to_thread(answer.read)
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() != b"transfer-encoding"]
        return httpx2.Response(answer.status_code, headers=headers, content=body)


def says(status: int, kind: str = "text/html", body: bytes = b"") -> Fault:
    return lambda _request, _send: httpx2.Response(status, headers={"content-type": kind}, content=body)


def other_keys() -> Fault:
    return says(422, ehbp.PROBLEM_MEDIA_TYPE, b'{"type":"%s"}' % ehbp.KEY_CONFIG_PROBLEM.encode())


def lost_before(request: httpx2.Request, _send: Any) -> httpx2.Response:
    raise httpx2.WriteError("lost", request=request)


def lost_after(request: httpx2.Request, send: Callable[[], httpx2.Response]) -> httpx2.Response:
    send().read()
    raise httpx2.ReadError("lost", request=request)


def too_late(request: httpx2.Request, _send: Any) -> httpx2.Response:
    raise httpx2.ReadTimeout("late", request=request)


class User:
    """A client on a network that fails as told."""

    def __init__(self, made: Any, served: Any, *, twin: bool, door: bool = False, wallet: Wallet | None = None) -> None:
        self.network, self._served, self._twin = Network(door=door), served, twin
        trust = {
            "policy": made.policy,
            "anchor": made.anchor_file,
            "broker": made.broker.identity.fingerprint,
            "accept_simulated": True,
        }
        self._sync = Client(served.url, transport=self.network, **trust)
        self._async = AsyncClient(served.url, transport=AsyncNetwork(self.network), **trust)
        self._sync.wallet = self._async.wallet = wallet

    def ask(self, *faults: Fault) -> str:
        self.network.faults = list(faults)
        if self._twin:
            return asyncio.run(self._async.ask("hello"))
        return self._sync.ask("hello")

    def answered(self) -> int:
        return len(self._served.engine.requests)


@pytest.fixture(params=["plain", "asynchronous"])
def user_with(made, served, request) -> Callable[..., User]:
    served.engine.requests.clear()
    return lambda **more: User(made, served, twin=request.param == "asynchronous", **more)


@pytest.fixture
def user(user_with) -> User:
    return user_with()


@pytest.fixture
def wallet(tmp_path) -> Wallet:
    """Three credits."""
    key, found = blind_rsa.generate(), Wallet(tmp_path / "wallet")
    found.buy(
        key.public_key(),
        "ada",
        3,
        lambda asked: CreditAnswer(tuple(blind_rsa.blind_sign(key, one) for one in asked.blinded), 0),
    )
    return found


def test_other_keys_are_verified_anew_and_asked_once_more(user):
    assert user.ask(other_keys()) == ANSWER
    assert (user.network.sealed, user.network.proofs, user.answered()) == (2, 2, 1)


def test_who_always_says_other_keys_is_asked_twice(user):
    with pytest.raises(ChannelKeyMismatch):
        user.ask(*[other_keys()] * 5)
    assert (user.network.sealed, user.answered()) == (2, 0)


def test_what_was_lost_on_the_way_there_is_sent_again_to_the_same_worker(user):
    assert user.ask(lost_before) == ANSWER
    assert (user.network.sealed, user.network.proofs, user.answered()) == (2, 1, 1)


def test_what_was_answered_and_lost_is_not_answered_twice(user):
    with pytest.raises(StrongroomError) as caught:
        user.ask(lost_after)
    assert "409" in str(caught.value)
    assert (user.network.sealed, user.answered()) == (2, 1)


@pytest.mark.parametrize("status", [502, 504])
def test_a_proxy_that_does_not_know_is_a_doubt(user, status):
    assert user.ask(says(status)) == ANSWER
    with pytest.raises(ServiceUnavailable):
        user.ask(says(status), says(status))


@pytest.mark.parametrize("second", [other_keys(), says(503), lost_before])
def test_after_a_doubt_no_other_worker_is_asked(user, second):
    with pytest.raises(StrongroomError):
        user.ask(lost_before, second)
    assert (user.network.sealed, user.answered()) == (2, 0)


def test_a_refusal_in_no_workers_words_is_sent_to_no_second_worker_of_a_fleet(user_with):
    user = user_with(door=True)
    with pytest.raises(ChannelRefused):
        user.ask(says(422))
    assert (user.network.sealed, user.network.proofs, user.answered()) == (1, 1, 0)
    assert user.ask() == ANSWER
    assert (user.network.sealed, user.network.proofs) == (2, 2), "the verification that was used is not used again"


def test_a_refusal_in_no_workers_words_is_not_paid_for_twice(user_with, wallet):
    user = user_with(wallet=wallet)
    with pytest.raises(ChannelRefused):
        user.ask(says(422))
    assert (user.network.sealed, user.network.proofs, user.answered(), len(wallet)) == (1, 1, 0, 2)
    assert user.ask() == ANSWER
    assert (user.network.sealed, user.network.proofs, len(wallet)) == (2, 2, 1)


def test_other_keys_in_a_workers_words_are_verified_anew_also_where_somebody_pays(user_with, wallet):
    user = user_with(wallet=wallet, door=True)
    assert user.ask(other_keys()) == ANSWER
    assert (user.network.sealed, user.network.proofs, user.answered(), len(wallet)) == (2, 2, 1, 2)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_worker_without_a_fleet_is_an_honest_error(user, status):
    with pytest.raises(WorkerBusy):
        user.ask(says(status))
    assert (user.network.sealed, user.answered()) == (1, 0)


def test_a_timeout_is_the_users(user):
    with pytest.raises(ServiceUnavailable):
        user.ask(too_late)
    assert user.network.sealed == 1


def test_the_identity_is_the_same_for_each_sending_and_never_in_the_clear(user):
    seen: list[httpx2.Request] = []

    def noted(request: httpx2.Request, _send: Any) -> httpx2.Response:
        seen.append(request)
        raise httpx2.WriteError("lost", request=request)

    assert user.ask(noted) == ANSWER
    assert REQUEST_HEADER not in seen[0].headers
    assert REQUEST_HEADER.encode() not in seen[0].content
