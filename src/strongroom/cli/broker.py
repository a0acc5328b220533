"""`strongroom broker`: the key broker, outside the TEE."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strongroom.cli import output
from strongroom.cli.enrolling import enrolling_options, take_enroller
from strongroom.cli.evidence_files import read_collateral, read_known
from strongroom.cli.explanation import explain_command
from strongroom.cli.pins import ask_pin
from strongroom.cli.remote import load_anchors, signed_options
from strongroom.crypto import pkcs11uri
from strongroom.crypto.signatures import public_from_pem
from strongroom.errors import UsageError

if TYPE_CHECKING:
    from strongroom.release.state import FindRoot


@click.group("broker", short_help="the key broker, outside the TEE")
def broker_command() -> None:
    """The key broker: appraises evidence, releases keys under leases, writes every decision into its log."""


broker_command.add_command(explain_command)


@broker_command.command("identity")
@click.option(
    "--state",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Its folder; made here, if it is not there.",
)
@output.json_option
def identity(state: Path, *, as_json: bool) -> None:
    """Print who a broker is, before it serves: its fingerprint, and the verifier key of its log, which witnesses need."""
    from strongroom.receipts.note import verifier_key
    from strongroom.release.state import load_or_create

    found = load_or_create(state).identity
    log = verifier_key(found.log_origin, found.log)
    if as_json:
        output.print_json({"fingerprint": found.fingerprint, "log": log})
    else:
        click.echo(f"fingerprint  {found.fingerprint}\nlog          {log}")


@broker_command.command("serve")
@click.option(
    "--state",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Its folder; made at the first start.",
)
@click.option(
    "--owner",
    "owners",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Public key of a root: an administrator who may do all and appoints the others; repeatable.",
)
@click.option(
    "--root",
    metavar="URI",
    help="pkcs11: address of its root key in a token, made there at the first start; else a file in its folder.",
)
@click.option("--anchor", metavar="FILE", help="PEM of an installation root, for simulated TEEs (development only).")
@signed_options
@click.option("--profile", type=click.Choice(["production", "development"]), default="production", show_default=True)
@click.option(
    "--keep-evidence",
    "keep_days",
    type=click.IntRange(0, 36_500),
    default=180,
    show_default=True,
    metavar="DAYS",
    help="How long evidence, collateral and tokens are kept for `audit export`; 0 keeps nothing.",
)
@click.option("--listen", default="127.0.0.1:8600", show_default=True, metavar="HOST:PORT")
@click.option("--witness", "seats", multiple=True, metavar="URL=VKEY", help="A witness of its log; repeatable.")
@click.option(
    "--witnesses",
    "least",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="K",
    help="How many of them must sign the log before an answer leaves.",
)
@click.option(
    "--collateral",
    "collateral",
    multiple=True,
    metavar="PATH",
    help="Vendors' collateral of its own, files or folders; nobody is judged by older.",
)
@click.option(
    "--sweep",
    "sweep_seconds",
    type=click.IntRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How often lists and collateral are read anew, and live leases judged by them; 0 is never.",
)
@enrolling_options
@output.json_option
def serve(
    state: Path,
    owners: tuple[str, ...],
    root: str | None,
    anchor: str | None,
    enrollers: tuple[str, ...],
    profile: str,
    keep_days: int,
    listen: str,
    seats: tuple[str, ...],
    least: int,
    collateral: tuple[str, ...],
    sweep_seconds: int,
    *,
    as_json: bool,
    **signed: Any,
) -> None:
    """Serve until told to stop. Prints the fingerprint that owners and workers name."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from strongroom.receipts.note import verifier_key
    from strongroom.release.opening import open_broker
    from strongroom.release.present import Given
    from strongroom.release.witness_client import Seat
    from strongroom.services.broker import broker_app
    from strongroom.services.server import parse_listen, serve_until_signal

    host, port = parse_listen(listen)
    enroller = take_enroller(signed)
    keys = []
    for path in owners:
        key = public_from_pem(output.read_file(path))
        if not isinstance(key, EllipticCurvePublicKey):
            raise UsageError(f"{path} is not a key on P-256", remedy="Make one with `strongroom keys new`.")
        keys.append(key)

    def given() -> Given:
        pile = read_collateral(collateral, int(time.time()))
        return Given(read_known(**signed), pile)

    anchors = load_anchors(anchor, enrollers=enrollers)
    broker = open_broker(
        state,
        anchors=anchors,
        owners=keys,
        profile=profile,
        keep_days=keep_days,
        witnesses=[Seat.parse(text) for text in seats],
        least=least,
        root=_root(root),
        source=given,
        sweep_seconds=sweep_seconds,
        enroller=enroller,
    )
    log = verifier_key(broker.identity.log_origin, broker.identity.log)

    def ready(url: str) -> None:
        fingerprint = broker.identity.fingerprint
        if as_json:
            click.echo(
                json.dumps({"state": "ready", "url": url, "fingerprint": fingerprint, "profile": profile, "log": log})
            )
        else:
            click.echo(f"ready        {url}\nfingerprint  {fingerprint}\nprofile      {profile}\nlog          {log}")
        sys.stdout.flush()

    try:
        asyncio.run(serve_until_signal(broker_app(broker), host=host, port=port, ready=ready))
    finally:
        broker.close()


def _root(uri: str | None) -> FindRoot | None:
    if uri is None:
        return None
    from strongroom.release.token_root import TokenRoot

    named = pkcs11uri.parse(uri)
    return lambda make: TokenRoot(named, ask_pin, make=make)
