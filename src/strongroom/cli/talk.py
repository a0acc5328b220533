"""`strongroom chat` and `strongroom proxy`: verify, then talk."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from strongroom.cli import output
from strongroom.cli.evidence_files import read_known
from strongroom.cli.output import F
from strongroom.cli.remote import digest, load_policy, trust_options
from strongroom.client.client import AsyncClient, Client
from strongroom.client.verification import Verification
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records import codec
from strongroom.records.verdict import Level


def trust_of(
    policy: str,
    owner: str | None,
    anchor: str | None,
    broker_fingerprint: str | None,
    enrollers: tuple[str, ...],
    relay: str | None = None,
    credits: Path | None = None,  # noqa: A002 (the option's name)
    api_key: Path | None = None,
    ca: Path | None = None,
    *,
    accept_simulated: bool,
    **signed: Any,
) -> dict[str, Any]:
    """What a user holds before any worker is met, from the options of `trust_options` and `way_options`."""
    return {
        "known": read_known(**signed),
        "policy": load_policy(policy, owner),
        "anchor": anchor,
        "enrollers": enrollers,
        "broker": digest(broker_fingerprint) if broker_fingerprint else None,
        "accept_simulated": accept_simulated,
        "relay": relay,
        "credits": credits,
        "api_key": None if api_key is None else output.read_file(api_key).decode("utf-8", "replace").strip(),
        "ca": ca,
    }


def way_options(command: F) -> F:
    """`--relay`, `--ca` and `--credits`: how requests travel, and what pays for them."""
    authorities = click.option(
        "--ca",
        type=click.Path(dir_okay=False, path_type=Path),
        help="PEM of the certificate authorities for TLS that ends before the worker.",
    )
    relay = click.option("--relay", metavar="URL", help="An oblivious relay: the worker does not learn who asks.")
    wallet = click.option(
        "--credits", type=click.Path(dir_okay=False, path_type=Path), help="A wallet; each request takes one credit."
    )
    return relay(authorities(wallet(command)))


def banner(verification: Verification) -> str:
    """One line for people: what was verified, and loudly when it is simulated."""
    statement = verification.bundle.evidence.statement
    line = f"verified: {verification.level.value}, {len(verification.verdict.checks)} checks, image {statement.image[:19]}…"
    if verification.level is Level.SIMULATED:
        return f"SIMULATED TEE: this place protects nothing. {line}"
    return line


@click.command("chat", short_help="verify a worker, then talk to it")
@click.argument("url")
@click.argument("prompt", required=False)
@click.option(
    "--receipt", "receipt_path", type=click.Path(dir_okay=False, path_type=Path), help="Save the last receipt here."
)
@click.option(
    "--api-key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with your key or token for this worker; it travels inside the seal alone.",
)
@click.option(
    "--save-verification",
    "verification_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save what the worker proved here; see `strongroom verification`.",
)
@click.option("--max-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True)
@click.option("--model", default="default", show_default=True, help="Of a worker that serves several: which one.")
@way_options
@trust_options
@output.json_option
def chat_command(
    url: str,
    prompt: str | None,
    receipt_path: Path | None,
    verification_path: Path | None,
    max_tokens: int,
    temperature: float,
    model: str,
    *,
    as_json: bool,
    **trust: Any,
) -> None:
    """Verify the worker at URL, then talk to it. Without PROMPT, ask at the terminal until it ends."""
    for path in (receipt_path, verification_path):
        if path is not None:
            output.require_new(path)
    client = Client(url, **trust_of(**trust))
    verification = client.verify()
    if not as_json:
        click.secho(banner(verification), err=True, bold=verification.level is Level.SIMULATED)
    if verification_path is not None:
        output.write_file(verification_path, codec.encode(verification.document))
    options = {"max_tokens": max_tokens, "temperature": temperature, "model": model}
    if prompt is not None:
        _one(client, prompt, options, as_json=as_json)
    else:
        while line := _prompt():
            _one(client, line, options, as_json=as_json)
    if receipt_path is not None:
        output.write_file(receipt_path, codec.encode(client.last_receipt))
        click.echo(f"receipt: {receipt_path}", err=True)


def _prompt() -> str:
    try:
        return str(click.prompt("you", prompt_suffix="> ", default="", show_default=False))
    except click.exceptions.Abort:
        return ""


def _one(client: Client, prompt: str, options: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        answer = client.ask(prompt, **options)
        verification = client.verify() if client.verification is None else client.verification
        output.print_json(
            {"answer": answer, "level": verification.level.value, "receipt": codec.to_json(client.last_receipt.receipt)}
        )
        return
    for piece in client.stream(prompt, **options):
        click.echo(piece, nl=False)
    click.echo()


@click.command("proxy", short_help="any OpenAI client, a verified worker behind it")
@click.argument("url")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Loopback only.")
@click.option(
    "--receipts", type=click.Path(file_okay=False, path_type=Path), help="Save each answer's receipt in this folder."
)
@way_options
@trust_options
@output.json_option
def proxy_command(url: str, listen: str, receipts: Path | None, *, as_json: bool, **trust: Any) -> None:
    """Let any OpenAI client use the verified worker at URL: point its base_url at this proxy's /v1."""
    from strongroom.services.proxy import Proxy, require_loopback
    from strongroom.services.server import parse_listen, serve_until_signal

    host, port = parse_listen(listen)
    require_loopback(host)
    if receipts is not None:
        output.made_folder(receipts)

    def keep(document: ReceiptDocument) -> None:
        if receipts is not None:
            output.write_file(
                receipts / f"{document.receipt.envelope.signatures[0][1].hex()[:24]}.json", codec.encode(document)
            )

    client = AsyncClient(url, **trust_of(**trust), on_receipt=keep)

    def ready(address: str) -> None:
        if as_json:
            click.echo(json.dumps({"state": "ready", "url": address}))
            sys.stdout.flush()
        else:
            click.echo(f"ready: base_url = {address}/v1", err=True)

    async def run() -> None:
        verification = await client.verify()
        if not as_json:
            click.secho(banner(verification), err=True, bold=verification.level is Level.SIMULATED)
        await serve_until_signal(Proxy(client).app, host=host, port=port, ready=ready)

    asyncio.run(run())
