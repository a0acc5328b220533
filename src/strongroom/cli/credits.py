"""`strongroom credits`: an issuer of credits that it cannot follow, and wallets."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from strongroom.cli import output
from strongroom.cli.remote import digest
from strongroom.errors import SignatureInvalid, UsageError
from strongroom.records.digest import digest_bytes

MAX_SECRET = 1024

_state = click.option(
    "--state",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The issuer's folder, with its key and accounts; made at the first start.",
)
_wallet = click.option(
    "--wallet", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file that holds the credits."
)


@click.group("credits", short_help="pay for answers without a name on them")
def credits_command() -> None:
    """Credits are bought by an account and spent by nobody in particular: issuer and worker cannot join the two."""


@credits_command.command("serve")
@_state
@click.option("--listen", default="127.0.0.1:8660", show_default=True, metavar="HOST:PORT")
@output.json_option
def serve(state: Path, listen: str, *, as_json: bool) -> None:
    """Sign blinded credits for accounts. Prints the digest of the key that buyers and workers pin."""
    from strongroom.services.credits.issuer import Issuer, issuer_app
    from strongroom.services.server import parse_listen, serve_until_signal

    host, port = parse_listen(listen)
    issuer = Issuer(state)
    named = digest_bytes(issuer.public)

    def ready(url: str) -> None:
        said = {"state": "ready", "url": url, "issuer": named}
        click.echo(json.dumps(said) if as_json else f"ready    {url}\nissuer   {named}")
        sys.stdout.flush()

    try:
        asyncio.run(serve_until_signal(issuer_app(issuer), host=host, port=port, ready=ready))
    finally:
        issuer.close()


@credits_command.command("grant")
@click.argument("account")
@click.argument("count", type=click.IntRange(0))
@_state
@click.option(
    "--secret",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where a new account's secret goes; it is shown nowhere.",
)
@output.json_option
def grant(account: str, count: int, state: Path, secret: Path | None, *, as_json: bool) -> None:
    """Raise the balance of ACCOUNT by COUNT; a new account needs --secret."""
    from strongroom.services.credits.issuer import Issuer

    issuer = Issuer(state)
    try:
        if secret is None:
            issuer.balance(account)  # a new account without a place for its secret could never buy
        elif secret.exists():
            raise UsageError(f"{secret} is already there", remedy="Choose another name; strongroom overwrites nothing.")
        made = issuer.grant(account, count)
        if made is not None and secret is not None:
            output.write_file(secret, made.encode() + b"\n", mode=0o600)
        _say(as_json, account=account, balance=issuer.balance(account))
    finally:
        issuer.close()


@credits_command.command("key")
@_state
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@output.json_option
def key(state: Path, target: Path, *, as_json: bool) -> None:
    """Write the issuer's public key to TARGET, for workers (`serve --credits`)."""
    from strongroom.services.credits.issuer import Issuer

    issuer = Issuer(state)
    try:
        output.write_file(target, issuer.public)
        _say(as_json, issuer=digest_bytes(issuer.public))
    finally:
        issuer.close()


@credits_command.command("buy")
@click.argument("url")
@click.argument("count", type=click.IntRange(1, 100))
@_wallet
@click.option("--account", required=True)
@click.option("--secret", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The account's secret.")
@click.option(
    "--issuer", required=True, metavar="DIGEST", help="The issuer's key, as `credits serve` says and workers pin it."
)
@output.json_option
def buy(url: str, count: int, wallet: Path, account: str, secret: Path, issuer: str, *, as_json: bool) -> None:
    """Buy COUNT credits at URL into a wallet. A purchase that broke off is finished first."""
    from strongroom.client.buying import IssuerClient
    from strongroom.client.wallet import Wallet

    found = IssuerClient(url, output.read_file(secret, limit=MAX_SECRET).decode("utf-8", "replace").strip())
    public = found.key()
    if digest_bytes(public) != digest(issuer):
        raise SignatureInvalid(
            "the issuer shows another key than the one you named",
            remedy="Do not buy: a key for you alone could tell you apart.",
        )
    purse = Wallet(wallet)
    answer = purse.buy(found.public_key(), account, count, found.issue)
    _say(as_json, credits=len(purse), balance=answer.left)


@credits_command.command("show")
@_wallet
@output.json_option
def show(wallet: Path, *, as_json: bool) -> None:
    """How many credits a wallet holds."""
    from strongroom.client.wallet import Wallet

    _say(as_json, credits=len(Wallet(wallet)))


def _say(as_json: bool, **said: Any) -> None:  # noqa: FBT001 (a line of output has a form)
    if as_json:
        output.print_json(said)
    else:
        for name, value in said.items():
            click.echo(f"{name.ljust(8)} {value}")
