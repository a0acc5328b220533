"""`strongroom receipt` and `strongroom log`: check offline what was done, and that it was logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strongroom.cli import output
from strongroom.cli.remote import broker_client, broker_options, digest, trust_options
from strongroom.cli.verification import read_trust
from strongroom.cli.witness import quorum, quorum_options, witness
from strongroom.client.documents import check_document
from strongroom.errors import UsageError
from strongroom.receipts.identity import open_identity
from strongroom.receipts.note import open_checkpoint
from strongroom.receipts.proof import verify_proof
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records import codec


@click.group("receipt", short_help="check a saved receipt, offline")
def receipt_command() -> None:
    """Check a saved receipt offline."""


@receipt_command.command("verify")
@click.argument("path")
@click.option(
    "--at", type=int, metavar="SECONDS", help="Judge the evidence as of this moment; else when its release was logged."
)
@quorum_options
@trust_options
@output.json_option
def verify_receipt(
    path: str,
    at: int | None,
    broker_fingerprint: str | None,
    named: tuple[str, ...],
    least: int | None,
    *,
    as_json: bool,
    **trust: Any,
) -> None:
    """Check a receipt document and all it rests on: signature, commitments, evidence, policy, log."""
    document = codec.decode(ReceiptDocument, output.read_file(path))
    checked = check_document(
        document,
        read_trust(broker_fingerprint, quorum(named, least), **trust),
        at=at,
    )
    receipt = checked.receipt
    if as_json:
        output.print_json(
            {"accepted": True, "level": checked.verdict.level.value, "receipt": codec.to_json(receipt),
             "logged": {"index": document.release.proof.index, "time": checked.decision.time}}
        )  # fmt: skip
    else:
        output.table(
            ("WHAT", "VALUE"),
            [
                ("receipt", f"number {receipt.sequence}, {receipt.outcome}, at {output.iso(receipt.time)}"),
                ("level", checked.verdict.level.value),
                ("workload", receipt.workload),
                ("artifacts", ", ".join(receipt.artifacts)),
                ("answered by", receipt.model or "none of them alone"),
                *([("with adapter", receipt.adapter)] if receipt.adapter else []),
                ("usage", ", ".join(f"{name} {count}" for name, count in receipt.usage.items()) or "none"),
                ("released", f"log entry {document.release.proof.index}, lease {receipt.lease_id}"),
                ("checks", f"{len(checked.verdict.checks)} passed"),
            ],
        )
        click.echo("the receipt holds")


@click.group("log", short_help="check the broker's log, offline; witness it")
def log_command() -> None:
    """Check the broker's log offline, or witness it."""


log_command.add_command(witness)


@log_command.command("erase")
@click.option("--who", metavar="FINGERPRINT", help="Somebody who acted at the broker: the fingerprint of their key.")
@click.option("--subject", metavar="ID", help="A key, policy or cell; TENANT/ for all of a tenant's.")
@click.option("--yes", is_flag=True, help="Do it; without this, nothing is erased.")
@broker_options
@output.json_option
def erase(
    who: str | None,
    subject: str | None,
    broker: str,
    broker_fingerprint: str,
    identity: Path,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase the salts under which leaves of the log hide somebody, or a name. The leaves stay, and tell nobody whom they mean."""
    if (who is None) == (subject is None):
        raise UsageError("this erases one person, or one name", remedy="Name one of --who and --subject.")
    value = digest(who) if who is not None else subject or ""
    if not yes:
        raise UsageError(f"nobody could find {value} in the log any more", remedy="Say --yes.")
    count = broker_client(broker, broker_fingerprint, identity).erase(value)
    if as_json:
        output.print_json({"openings": count})
    else:
        click.echo(
            f"{count} members of leaves can be opened by nobody any more; backups and exported bundles keep theirs"
        )


@log_command.command("verify")
@click.argument("path")
@click.option("--broker-fingerprint", required=True, metavar="DIGEST", help="The broker whose log it must be.")
@quorum_options
@output.json_option
def verify_log(path: str, broker_fingerprint: str, named: tuple[str, ...], least: int | None, *, as_json: bool) -> None:
    """Check that the decision behind the receipt document in PATH is in the broker's log."""
    document = codec.decode(ReceiptDocument, output.read_file(path))
    release = document.release
    identity = open_identity(release.broker, digest(broker_fingerprint))
    witnesses = quorum(named, least)
    leaf = verify_proof(release.proof, origin=identity.log_origin, log_key=identity.log, witnesses=witnesses)
    signed = () if witnesses is None else witnesses.check(release.proof.checkpoint)
    checkpoint = open_checkpoint(release.proof.checkpoint, identity.log_origin, identity.log)
    if as_json:
        output.print_json(
            {"accepted": True, "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex(),
             "index": release.proof.index, "leaf": codec.to_json(leaf),
             "witnesses": [{"name": one.witness.name, "time": one.time} for one in signed]}
        )  # fmt: skip
    else:
        click.echo(
            f"{leaf.event} {leaf.subject} is entry {release.proof.index} of {checkpoint.size} in {checkpoint.origin}"
        )
        for one in signed:
            click.echo(f"witnessed by {one.witness.name} at {output.iso(one.time)}")
