"""Billing cannot name who asked what: bought by name, spent without one, through a relay, at a real worker of the tests."""

import base64
import re
from typing import Any

import httpx2
import pytest
from world import WORDS, world

from strongroom.channel.credit import Issuers, parse_credit
from strongroom.client.buying import IssuerClient
from strongroom.client.wallet import Wallet
from strongroom.crypto import blind_rsa
from strongroom.errors import CreditRefused, ServiceUnavailable
from strongroom.services.credits.issuer import Issuer, issuer_app
from strongroom.services.credits.spent import SpentInFile
from strongroom.services.credits.till import Till
from strongroom.services.relay import Relay
from strongroom.services.server import BackgroundServer

SHORTEST = 8
"""Bytes: what two views share by chance is shorter."""


class Wire(httpx2.HTTPTransport):
    """A network that keeps what went over it, both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = b""

    def handle_request(self, request: Any) -> Any:
        body = request.read()
        answer = super().handle_request(
            httpx2.Request(request.method, request.url, headers=request.headers, content=body)
        )
        came = answer.read()
        self.seen += b"".join([repr(request.headers).encode(), body, repr(answer.headers).encode(), came])
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=httpx2.ByteStream(came))


class Ledger(SpentInFile):
    """The spender's set, which keeps what it was told."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.told: list[bytes] = []

    def add(self, spent: bytes) -> bool:
        self.told.append(spent)
        return super().add(spent)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def estate(place, tmp_path_factory):
    """An issuer, and a worker that takes its credits; both may be looked into."""
    folder = tmp_path_factory.mktemp("credits")
    issuer, ledger = Issuer(folder / "issuer"), Ledger(folder / "spent.db")
    counted = Issuers([blind_rsa.public_from_der(issuer.public)])
    with (
        place.serving(within=lambda app: Till(app, counted, ledger)) as worker,
        BackgroundServer(issuer_app(issuer)) as shop,
    ):
        yield issuer, shop.url, worker, ledger, folder
    issuer.close()
    ledger.close()


def parts(view: bytes) -> set[bytes]:
    """Every run of SHORTEST bytes of a view: its bytes, and what its words hide as base64url."""
    words = re.findall(rb"[A-Za-z0-9_-]{10,}", view)
    found = [view, *(base64.urlsafe_b64decode(word[: len(word) - (len(word) % 4 == 1)] + b"==") for word in words)]
    return {data[at : at + SHORTEST] for data in found for at in range(len(data) - SHORTEST + 1)}


def test_the_issuers_whole_view_and_the_spenders_whole_view_share_nothing(place, estate, tmp_path):
    issuer, shop, worker, ledger, folder = estate
    wire, wallet = Wire(), Wallet(tmp_path / "wallet")
    client = IssuerClient(shop, issuer.grant("ada", 4), transport=wire)
    blinded: list[bytes] = []

    def issue(request: Any) -> Any:
        blinded.extend(request.blinded)
        return client.issue(request)

    wallet.buy(client.public_key(), "ada", 4, issue)
    held = [parse_credit(line) for line in (tmp_path / "wallet").read_text().split()]
    with BackgroundServer(Relay(worker.url).app) as relay:
        user = place.client("http://worker.invalid", relay=relay.url, credits=tmp_path / "wallet")
        assert user.ask("who asks?") == "".join(WORDS)
        asked = place.client(worker.url, credits=tmp_path / "wallet")
        assert asked.ask("who asks?") == "".join(WORDS)
    assert len(wallet) == 2

    public = blind_rsa.public_to_der(blind_rsa.public_from_der(issuer.public))
    files = b"".join(path.read_bytes() for path in (folder / "issuer").iterdir() if path.suffix != ".pem")
    issuers_view = parts(wire.seen) | parts(files)
    assert b"ada" in wire.seen + files
    assert all(parts(value) <= issuers_view for value in blinded), "the view is looked into where it can be read"
    spent = held[:2]
    assert set(ledger.told) == {credit.spent_as for credit in spent}
    for credit in spent:
        for secret in (credit.serial, credit.prefix, credit.signature, credit.spent_as):
            assert not parts(secret) & (issuers_view - parts(public))
    for request in worker.engine.requests:
        assert "strongroom_credit" not in request
        assert "ada" not in repr(request)


def test_a_credit_buys_one_answer_and_a_copy_of_the_wallet_buys_none(place, estate, tmp_path):
    issuer, shop, worker, _, _ = estate
    first, copy = tmp_path / "wallet", tmp_path / "copy"
    client = IssuerClient(shop, issuer.grant("bob", 1))
    Wallet(first).buy(client.public_key(), "bob", 1, client.issue)
    copy.write_bytes(first.read_bytes())
    assert place.client(worker.url, credits=first).ask("q") == "".join(WORDS)
    with pytest.raises(CreditRefused, match="empty"):
        place.client(worker.url, credits=first).ask("q")
    with pytest.raises(ServiceUnavailable, match="402"):
        place.client(worker.url, credits=copy).ask("q")
    with pytest.raises(ServiceUnavailable, match="402"):
        place.client(worker.url).ask("q")
    sdk = place.client(worker.url).openai()
    assert [model.id for model in sdk.models.list().data] == ["echo"]


def test_a_credit_comes_back_to_the_wallet_where_nobody_was_reached(place, estate, tmp_path):
    issuer, shop, worker, _, _ = estate
    client = IssuerClient(shop, issuer.grant("eve", 1))
    Wallet(tmp_path / "wallet").buy(client.public_key(), "eve", 1, client.issue)
    user = place.client(worker.url, credits=tmp_path / "wallet")
    user.verify()
    user.url = "http://127.0.0.1:1"
    with pytest.raises(ServiceUnavailable):
        user.ask("q")
    assert len(Wallet(tmp_path / "wallet")) == 1
