"""Credits on the command line: an issuer in its folder, accounts, wallets, and what a worker pins of it."""

import stat

import pytest

from strongroom.services.credits.issuer import Issuer, issuer_app
from strongroom.services.server import BackgroundServer


@pytest.fixture
def shop(tmp_path):
    issuer = Issuer(tmp_path / "issuer")
    with BackgroundServer(issuer_app(issuer)) as server:
        yield server.url
    issuer.close()


def test_an_account_is_made_with_its_secret_in_a_file_and_buys_into_a_wallet(strongroom, shop, tmp_path):
    state, secret, wallet = ("--state", tmp_path / "issuer"), tmp_path / "secret", tmp_path / "wallet"
    made = strongroom("credits", "grant", "ada", "5", *state, "--secret", secret, "--json")
    assert made.document == {"account": "ada", "balance": 5}
    assert secret.read_text().strip() not in made.out
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert strongroom("credits", "grant", "ada", "2", *state, "--json").document["balance"] == 7
    named = strongroom("credits", "key", tmp_path / "issuer.der", *state, "--json").document["issuer"]
    buy = ("credits", "buy", shop, "3", "--wallet", wallet, "--account", "ada", "--secret", secret, "--json")
    assert strongroom(*buy, "--issuer", named).document == {"credits": 3, "balance": 4}
    assert strongroom("credits", "show", "--wallet", wallet, "--json").document == {"credits": 3}
    assert "credits  3" in strongroom("credits", "show", "--wallet", wallet).out


def test_what_has_no_meaning_or_would_tell_a_buyer_apart_is_refused(strongroom, shop, tmp_path):
    state, secret, wallet = ("--state", tmp_path / "issuer"), tmp_path / "secret", tmp_path / "wallet"
    assert strongroom("credits", "grant", "ada", "5", *state, "--json").error == "usage"
    strongroom("credits", "grant", "ada", "5", *state, "--secret", secret)
    assert strongroom("credits", "grant", "bob", "5", *state, "--secret", secret, "--json").error == "usage"
    buy = ("credits", "buy", shop, "3", "--wallet", wallet, "--account", "ada", "--secret", secret, "--json")
    assert strongroom(*buy, "--issuer", "sha256:" + "7" * 64).error == "signature.invalid"
    assert strongroom(*buy, "--issuer", "nonsense").error == "usage"
    named = strongroom("credits", "key", tmp_path / "issuer.der", *state, "--json").document["issuer"]
    secret.write_text("another")
    assert strongroom(*buy, "--issuer", named).error == "admin.not_authorised"
    assert strongroom("credits", "show", "--wallet", wallet, "--json").document == {"credits": 0}
    assert strongroom("relay", "--to", "nowhere", "--json").error == "usage"
