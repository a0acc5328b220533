"""The issuer over real HTTP, the double-spend sets, and the till before an application that fails on demand."""

import asyncio
import json
import stat
import threading
from typing import Any

import httpx2
import pytest
from starlette.requests import Request

from strongroom.channel.credit import FIELD, MEMBER, Issuers
from strongroom.channel.server import SEALED, SEALED_FIELDS
from strongroom.client.buying import IssuerClient
from strongroom.client.wallet import Wallet
from strongroom.crypto import blind_rsa
from strongroom.errors import (
    CreditRefused,
    FileUnreadable,
    MalformedRecord,
    NotAuthorised,
    ServiceUnavailable,
    StoreUnavailable,
    UsageError,
)
from strongroom.records.credit import CREDITS_PATH, CreditRequest
from strongroom.services.credits.issuer import Issuer, issuer_app
from strongroom.services.credits.spent import SpentInFile, SpentInMemory
from strongroom.services.credits.till import Till
from strongroom.services.server import BackgroundServer

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


@pytest.fixture
def issuer(tmp_path):
    made = Issuer(tmp_path / "issuer")
    yield made
    made.close()


@pytest.fixture
def url(issuer):
    with BackgroundServer(issuer_app(issuer)) as server:
        yield server.url


def test_an_account_buys_against_its_balance_and_no_further(issuer, url, tmp_path):
    secret = issuer.grant("ada", 3)
    client, wallet = IssuerClient(url, secret), Wallet(tmp_path / "wallet")
    assert client.key() == issuer.public
    assert wallet.buy(client.public_key(), "ada", 2, client.issue).left == 1
    with pytest.raises(CreditRefused, match="balance is 1"):
        Wallet(tmp_path / "other").buy(client.public_key(), "ada", 2, client.issue)
    assert (len(wallet), issuer.balance("ada")) == (2, 1)
    assert issuer.grant("ada", 5) is None
    assert issuer.balance("ada") == 6


def test_the_same_purchase_again_is_signed_again_and_costs_nothing(issuer, url):
    client = IssuerClient(url, issuer.grant("ada", 2))
    blinded = blind_rsa.blind(client.public_key(), b"m")
    request = CreditRequest("ada", (blinded.request,))
    assert client.issue(request) == client.issue(request)
    assert issuer.balance("ada") == 1


def test_nobody_buys_without_the_accounts_secret(issuer, url):
    secret, other = issuer.grant("ada", 5), issuer.grant("bob", 5)
    request = CreditRequest("ada", (bytes(255) + b"\x05",))
    for wrong in ("x", other, secret + "x"):
        with pytest.raises(NotAuthorised):
            IssuerClient(url, wrong).issue(request)
    with pytest.raises(NotAuthorised):
        IssuerClient(url, secret).issue(CreditRequest("nobody", request.blinded))
    assert httpx2.post(url + CREDITS_PATH, content=b"{}").status_code == 401
    assert issuer.balance("ada") == 5


def test_what_is_no_purchase_costs_nothing(issuer, url):
    secret = issuer.grant("ada", 5)
    client = IssuerClient(url, secret)
    modulus = client.public_key().public_numbers().n.to_bytes(256)
    good = bytes(255) + b"\x05"
    for wrong in ((), (bytes(256),), (bytes(255),), (modulus,), (b"\xff" * 256,), (good,) * 101):
        with pytest.raises(MalformedRecord):
            client.issue(CreditRequest("ada", wrong))
    headers = {"authorization": f"Bearer {secret}"}
    for body in (b"", b"[]", b"{}", b"\xff", b"x" * 200_000):
        assert httpx2.post(url + CREDITS_PATH, content=body, headers=headers).status_code in {400, 413}
    assert issuer.balance("ada") == 5
    with pytest.raises(ServiceUnavailable):
        IssuerClient("http://127.0.0.1:1", secret).key()


def test_two_purchases_at_once_never_take_more_than_there_is(issuer):
    secret = issuer.grant("ada", 3)
    done: list[int] = []

    def buy(number: int) -> None:
        try:
            done.append(issuer.issue(CreditRequest("ada", (bytes(255) + bytes([number + 2]),)), secret).left)
        except CreditRefused:
            done.append(-1)

    threads = [threading.Thread(target=buy, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [-1, -1, -1, 0, 1, 2]


def test_an_issuer_is_the_same_one_after_a_restart_and_looks_after_its_files(issuer, tmp_path):
    issuer.grant("ada", 3)
    issuer.close()
    again = Issuer(tmp_path / "issuer")
    assert (again.public, again.balance("ada")) == (issuer.public, 3)
    again.close()
    key = tmp_path / "issuer" / "credits.pem"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "issuer").glob("credits.*")} == {0o600}
    key.chmod(0o644)
    with pytest.raises(FileUnreadable, match="read by others"):
        Issuer(tmp_path / "issuer")
    key.chmod(0o600)
    key.write_text("nonsense")
    with pytest.raises(FileUnreadable):
        Issuer(tmp_path / "issuer")
    key.unlink()
    with pytest.raises(StoreUnavailable, match="key is missing"):
        Issuer(tmp_path / "issuer")


def test_accounts_have_names_and_limits(issuer):
    for name, count in (("", 1), ("a\n", 1), ("x" * 129, 1), ("ada", -1), ("ada", 2**41)):
        with pytest.raises(UsageError):
            issuer.grant(name, count)
    with pytest.raises(UsageError):
        issuer.balance("nobody")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_of_many_that_spend_the_same_at_once_one_does(kind, tmp_path):
    spent = SpentInMemory() if kind == "memory" else SpentInFile(tmp_path / "spent.db")
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(spent.add(b"a" * 32))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 7 + [True]
    spent.remove(b"a" * 32)
    assert spent.add(b"a" * 32)
    if kind == "file":
        beside = SpentInFile(tmp_path / "spent.db")
        assert not beside.add(b"a" * 32)
        spent.close()
        beside.close()
        with pytest.raises(StoreUnavailable):
            spent.add(b"b")
        (tmp_path / "other.db").write_bytes(b"not a database, but long enough to be taken for one" * 40)
        with pytest.raises(StoreUnavailable):
            SpentInFile(tmp_path / "other.db")
        with pytest.raises(StoreUnavailable):
            SpentInFile(tmp_path / "issuer" / "no" / "folder")


class Place:
    """A till before an application that answers as it is told."""

    def __init__(self, issuer: Issuer, wallet: Wallet) -> None:
        self.status, self.failing, self.seen = 200, "", list[Any]()
        self.spent, self.wallet = SpentInMemory(), wallet
        self.till = Till(self.app, Issuers([blind_rsa.public_from_der(issuer.public)]), self.spent)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append((scope["path"], (await receive())["body"], (await receive())["type"]))
        if self.failing == "before":
            raise RuntimeError
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        if self.failing == "after":
            raise RuntimeError
        await send({"type": "http.response.body", "body": b"yes", "more_body": False})

    def ask(
        self, path: str = CHAT, *, body: bytes = b"{}", fields: Any = (), method: str = "POST", **scope: Any
    ) -> Any:
        sent: list[Any] = []
        incoming = [
            {"type": "http.request", "body": body[:1], "more_body": True},
            {"type": "http.request", "body": body[1:]},
        ]

        async def receive() -> Any:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        whole = {"type": "http", "method": method, "path": path, "headers": list(fields), SEALED: True, **scope}
        asyncio.run(self.till(whole, receive, send))
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.fixture
def place(issuer, tmp_path):
    secret, wallet = issuer.grant("ada", 9), Wallet(tmp_path / "wallet")
    wallet.buy(blind_rsa.public_from_der(issuer.public), "ada", 4, lambda request: issuer.issue(request, secret))
    return Place(issuer, wallet)


def member(credit: str) -> bytes:
    return json.dumps({"q": 1, MEMBER: credit}).encode()


def test_a_credit_in_the_body_or_in_a_sealed_field_is_taken_once(place):
    one, two = place.wallet.take(), place.wallet.take()
    assert place.ask(body=member(one)) == (200, b"yes")
    assert place.seen == [(CHAT, member(one), "http.disconnect")]
    field = [(FIELD.encode(), two.encode())]
    assert place.ask(fields=field, **{SEALED_FIELDS: True})[0] == 200
    for again in ({"body": member(one)}, {"fields": field, SEALED_FIELDS: True}, {"body": member(two)}):
        status, said = place.ask(**again)
        assert (status, json.loads(said)["error"]["code"]) == (402, "credit.refused")
        assert "spent before" in json.loads(said)["error"]["message"]
    assert len(place.seen) == 2


def test_without_a_good_credit_nothing_reaches_the_application(place):
    credit = place.wallet.take()
    field = (FIELD.encode(), credit.encode())
    for asked in (
        {},
        {"body": b"nonsense"},
        {"body": b"[" * 100_000},
        {"body": b'{"strongroom_credit":5}'},
        {"body": member(credit[:-1] + ("A" if credit[-1] != "A" else "B"))},
        {"fields": [field]},
        {"fields": [field, field], SEALED_FIELDS: True},
    ):
        status, said = place.ask(**asked)
        assert (status, json.loads(said)["error"]["type"]) == (402, "credit.refused")
    status, said = place.ask(MESSAGES)
    assert (status, json.loads(said)["type"], json.loads(said)["error"]["type"]) == (402, "error", "billing_error")
    assert place.seen == []
    assert place.ask(body=member(credit))[0] == 200


def test_what_costs_nothing_or_came_unsealed_passes(place):
    assert place.ask("/v1/models", method="GET")[0] == 200
    assert place.ask("/healthz")[0] == 200
    assert place.ask(**{SEALED: False})[0] == 200


@pytest.mark.parametrize(
    ("status", "failing", "spent"),
    [(500, "", 0), (503, "", 0), (429, "", 0), (400, "", 1), (200, "after", 1), (200, "before", 0)],
)
def test_a_credit_is_given_back_where_nothing_was_sold(place, status, failing, spent):
    place.status, place.failing = status, failing
    credit = place.wallet.take()
    try:
        place.ask(body=member(credit))
    except RuntimeError:
        assert failing
    assert len(place.spent._spent) == spent
    place.status, place.failing = 200, ""
    assert place.ask(body=member(credit))[0] == (402 if spent else 200)


def test_a_set_that_does_not_answer_is_not_taken_for_a_yes(place, tmp_path):
    closed = SpentInFile(tmp_path / "spent.db")
    closed.close()
    place.till._spent = closed
    assert place.ask(body=member(place.wallet.take()))[0] == 503
    assert place.seen == []


def test_the_users_proxy_says_that_the_wallet_is_empty_in_the_apis_own_words(tmp_path):
    from strongroom.services.proxy import _refusal

    with pytest.raises(CreditRefused) as empty:
        Wallet(tmp_path / "wallet").take()
    request = Request({"type": "http", "path": "/v1/chat/completions", "headers": []})
    answer = asyncio.run(_refusal(request, empty.value))
    assert (answer.status_code, json.loads(answer.body)["error"]["code"]) == (402, "credit.refused")
