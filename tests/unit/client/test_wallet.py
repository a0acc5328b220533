"""Wallets and credits: bought blind, taken out before use, finished after a crash, refused when changed."""

import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.channel.credit import Issuers, parse_credit, put_into_json
from strongroom.client import wallet as wallets
from strongroom.client.wallet import Wallet
from strongroom.crypto import blind_rsa
from strongroom.errors import (
    CreditRefused,
    FileUnreadable,
    MalformedMessage,
    ServiceUnavailable,
    SignatureInvalid,
    UsageError,
)
from strongroom.records.credit import CreditAnswer, CreditRequest

KEY = blind_rsa.generate()
PUBLIC = KEY.public_key()
ISSUERS = Issuers([PUBLIC])


def signer(request: CreditRequest) -> CreditAnswer:
    return CreditAnswer(tuple(blind_rsa.blind_sign(KEY, one) for one in request.blinded), 5)


@pytest.fixture
def wallet(tmp_path):
    return Wallet(tmp_path / "wallet")


@pytest.fixture(scope="module")
def credit(tmp_path_factory):
    made = Wallet(tmp_path_factory.mktemp("one") / "wallet")
    made.buy(PUBLIC, "ada", 1, signer)
    return made.take()


def test_credits_are_bought_and_each_is_taken_once(wallet, tmp_path):
    assert len(wallet) == 0
    assert wallet.buy(PUBLIC, "ada", 3, signer).left == 5
    assert len(wallet) == 3
    taken = [wallet.take() for _ in range(3)]
    assert len(set(taken)) == 3
    for text in taken:
        found = parse_credit(text)
        assert found.to_text() == text
        ISSUERS.check(found)
        assert text not in repr(found)
    with pytest.raises(CreditRefused, match="empty"):
        wallet.take()
    wallet.give_back(taken[1])
    assert wallet.take() == taken[1]
    assert stat.S_IMODE((tmp_path / "wallet").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wallet", "wallet.lock"]


def test_a_credit_is_off_the_disk_before_it_is_used_and_two_never_take_the_same(wallet, tmp_path):
    wallet.buy(PUBLIC, "ada", 8, signer)
    taken: list[str] = []

    def take() -> None:
        for _ in range(2):
            text = Wallet(tmp_path / "wallet").take()
            assert text not in (tmp_path / "wallet").read_text()
            taken.append(text)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 8
    assert len(wallet) == 0


def test_a_purchase_that_broke_off_is_finished_with_the_same_request(wallet):
    asked: list[CreditRequest] = []

    def away(request: CreditRequest) -> CreditAnswer:
        asked.append(request)
        raise ServiceUnavailable("the answer was lost")

    def there(request: CreditRequest) -> CreditAnswer:
        asked.append(request)
        return signer(request)

    with pytest.raises(ServiceUnavailable):
        wallet.buy(PUBLIC, "ada", 2, away)
    assert len(wallet) == 0
    with pytest.raises(UsageError, match="not finished"):
        wallet.buy(PUBLIC, "bob", 2, there)
    wallet.buy(PUBLIC, "ada", 50, there)
    assert asked[0] == asked[1]
    assert len(wallet) == 2
    wallet.buy(PUBLIC, "ada", 1, there)
    assert len(wallet) == 3


def test_an_issuer_that_signs_something_else_is_noticed_and_its_credits_never_reach_the_wallet(wallet):
    def short(request: CreditRequest) -> CreditAnswer:
        return CreditAnswer(signer(request).signed[:-1], 0)

    def other(request: CreditRequest) -> CreditAnswer:
        return CreditAnswer(tuple(bytes(256) for _ in request.blinded), 0)

    with pytest.raises(MalformedMessage):
        wallet.buy(PUBLIC, "ada", 2, short)
    with pytest.raises(SignatureInvalid):
        wallet.buy(PUBLIC, "ada", 2, other)
    assert len(wallet) == 0
    for count in (0, 101):
        with pytest.raises(UsageError):
            Wallet(wallet._path.with_name("new")).buy(PUBLIC, "ada", count, signer)


@given(st.data())
def test_a_credit_that_was_changed_is_refused(credit, data):
    at = data.draw(st.integers(0, len(credit) - 1))
    other = data.draw(st.sampled_from("ABCDEFxyz019-_ ="))
    changed = credit[:at] + other + credit[at + 1 :]
    if changed == credit:
        return
    with pytest.raises(CreditRefused):
        ISSUERS.check(parse_credit(changed))


def test_what_is_no_credit_or_of_another_issuer_is_refused(credit):
    for text in ("", "A", "x" * 2000, credit[:-4], credit + "AAAA", "é"):
        with pytest.raises(CreditRefused):
            ISSUERS.check(parse_credit(text))
    with pytest.raises(CreditRefused, match="does not count"):
        Issuers([blind_rsa.generate().public_key()]).check(parse_credit(credit))
    with pytest.raises(CreditRefused):
        Issuers([]).check(parse_credit(credit))


def test_a_file_that_is_no_wallet_is_refused(tmp_path, monkeypatch):
    (tmp_path / "wallet").write_text("not credits\n")
    with pytest.raises(CreditRefused):
        Wallet(tmp_path / "wallet").take()
    with pytest.raises(FileUnreadable):
        Wallet(tmp_path / "missing" / "wallet").take()
    monkeypatch.setattr(wallets, "MAX_WALLET", 3)
    with pytest.raises(FileUnreadable):
        len(Wallet(tmp_path / "wallet"))


def test_a_disk_that_is_full_loses_no_credit(wallet, monkeypatch):
    wallet.buy(PUBLIC, "ada", 2, signer)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileUnreadable):
        wallet.take()
    monkeypatch.undo()
    assert len(wallet) == 2


def test_a_credit_becomes_the_last_member_of_any_object():
    assert put_into_json(b'{"a":1}', "T") == b'{"a":1,"strongroom_credit":"T"}'
    assert put_into_json(b" { }\n", "T") == b' { "strongroom_credit":"T"}\n'
    with pytest.raises(MalformedMessage):
        put_into_json(b"[]", "T")
