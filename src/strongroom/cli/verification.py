"""`strongroom verification`: what a worker proved to a user, kept in a file; shown, and checked again offline."""

from __future__ import annotations

from typing import Any

import click

from strongroom.cli import output
from strongroom.cli.evidence_files import read_known
from strongroom.cli.remote import digest, load_anchors, load_policy, trust_options
from strongroom.cli.witness import quorum, quorum_options
from strongroom.client.documents import check_verification
from strongroom.client.verification import Trust
from strongroom.errors import UsageError
from strongroom.receipts.cosignature import Quorum
from strongroom.records import codec
from strongroom.records.session import VerificationDocument

NONCE_BYTES = 32


def read_trust(broker_fingerprint: str | None, witnesses: Quorum | None, **trust: Any) -> Trust:
    """What `trust_options` and `quorum_options` say."""
    return Trust(
        policy=load_policy(trust["policy"], trust["owner"]),
        anchors=load_anchors(trust["anchor"], enrollers=trust["enrollers"]),
        broker=digest(broker_fingerprint) if broker_fingerprint else None,
        accept_simulated=trust["accept_simulated"],
        known=read_known(trust["references"], trust["custody"], trust["provenance"], trust["signers"]),
        witnesses=witnesses,
    )


def _read(path: str) -> VerificationDocument:
    return codec.decode(VerificationDocument, output.read_file(path))


@click.group("verification", short_help="a saved verification of a worker: show it, check it offline")
def verification_command() -> None:
    """A saved verification of a worker (`strongroom chat --save-verification`): show it, check it offline."""


@verification_command.command("show")
@click.argument("path")
@output.json_option
def show(path: str, *, as_json: bool) -> None:
    """Show what is in the document in PATH. Nothing of it is checked: anybody may have written it."""
    document = _read(path)
    evidence, verdict = document.bundle.evidence, document.verdict
    if as_json:
        output.print_json(
            {"checked": False, "level": verdict.level.value, "verified": verdict.time,
             "keyset": codec.to_json(evidence.keyset), "statement": codec.to_json(evidence.statement),
             "lease": document.release.lease_id, "checks": output.checks_json(verdict.checks)}
        )  # fmt: skip
        return
    statement = evidence.statement
    output.table(
        ("WHAT", "VALUE"),
        [
            ("level", verdict.level.value),
            ("verified", f"at {output.iso(verdict.time)}"),
            ("workload", statement.workload),
            ("image", statement.image),
            ("artifacts", ", ".join(statement.artifacts)),
            ("configuration", statement.configuration),
            ("keyset", evidence.keyset.digest),
            ("TLS key", evidence.keyset.tls or "none"),
            ("channels", ", ".join(evidence.keyset.channels)),
            ("released", f"log entry {document.release.proof.index}, lease {document.release.lease_id}"),
        ],
    )
    output.checks(verdict.checks)
    click.echo("shown, not checked: strongroom verification check")


@verification_command.command("check")
@click.argument("path")
@click.option(
    "--at", type=int, metavar="SECONDS", help="Judge the evidence as of this moment; else when its release was logged."
)
@click.option("--nonce", metavar="HEX", help="The nonce that the worker was asked with, if you still know it.")
@quorum_options
@trust_options
@output.json_option
def check(
    path: str,
    at: int | None,
    nonce: str | None,
    broker_fingerprint: str | None,
    named: tuple[str, ...],
    least: int | None,
    *,
    as_json: bool,
    **trust: Any,
) -> None:
    """Check the document in PATH and all it rests on, offline: evidence, policy, the broker's decision, its log."""
    document = _read(path)
    found = check_verification(
        document, read_trust(broker_fingerprint, quorum(named, least), **trust), at=at, nonce=_nonce(nonce)
    )
    if as_json:
        output.print_json(
            {"accepted": True, "level": found.verdict.level.value, "checks": output.checks_json(found.verdict.checks),
             "logged": {"index": document.release.proof.index, "time": found.decision.time}}
        )  # fmt: skip
    else:
        click.echo(f"level {found.verdict.level.value}, {len(found.verdict.checks)} checks passed")
        click.echo(f"released at {output.iso(found.decision.time)}, log entry {document.release.proof.index}")
        click.echo("the verification holds")


def _nonce(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != NONCE_BYTES:
        raise UsageError(f"a nonce has {NONCE_BYTES} bytes", remedy="Write 64 hexadecimal digits, or leave it out.")
    return found
