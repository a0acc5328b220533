"""`strongroom audit`: what a broker decided, on which proof, in one file that anybody can check offline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from strongroom.audit import bundle as files
from strongroom.audit.report import to_markdown
from strongroom.audit.verify import Audit, AuditTrust, verify
from strongroom.cli import output
from strongroom.cli.evidence_files import read_known
from strongroom.cli.remote import broker_client, broker_options, digest, load_anchors, signed_options
from strongroom.cli.witness import quorum, quorum_options
from strongroom.crypto.signatures import PublicKey, private_from_pem, public_from_pem
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.names import check_tenant


@click.group("audit", short_help="export what a broker decided, and check it offline")
def audit_command() -> None:
    """Export what a broker decided with all that it rested on; check such a bundle offline, by appraising again."""


@audit_command.command("export")
@click.option("--lease", metavar="ID", help="One lease, from its release to its end.")
@click.option("--policy", metavar="ID", help="All leases that rested on this policy.")
@click.option("--since", type=output.Moment(), help="Everything from this moment on.")
@click.option("--until", type=output.Moment(), help="And up to this moment.")
@click.option("--receipt", "receipts", multiple=True, metavar="FILE", help="Receipts to put beside; repeatable.")
@click.option(
    "--sign",
    "signer",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Your private key, to sign the bundle with.",
)
@click.option("-o", "--output", "path", required=True, type=click.Path(dir_okay=False, path_type=Path))
@broker_options
@output.json_option
def export(
    lease: str | None,
    policy: str | None,
    since: int | None,
    until: int | None,
    receipts: tuple[str, ...],
    signer: Path | None,
    path: Path,
    broker: str,
    broker_fingerprint: str,
    identity: Path,
    *,
    as_json: bool,
) -> None:
    """Write a bundle about one lease, one policy, or a span of time."""
    from strongroom.audit.gather import gather

    if sum((lease is not None, policy is not None, since is not None or until is not None)) != 1:
        raise UsageError(
            "an audit is of a lease, of a policy, or of a span of time", remedy="Name exactly one of them."
        )
    scope = files.Scope(lease, policy, since or 0, codec.MAX_INTEGER if until is None else until)
    kept = [output.read_file(name) for name in receipts]
    client = broker_client(broker, broker_fingerprint, identity)
    pages = client.audit(lease=lease, since=scope.since, until=scope.until)
    bundle = gather(pages, scope, identity=client.identity_envelope, broker=digest(broker_fingerprint), receipts=kept)
    key = private_from_pem(output.read_file(signer)) if signer is not None else None
    output.write_file(path, files.write(bundle, key))
    leaves, decisions = (len(bundle.folder(folder)) for folder in (files.LEAVES, files.DECISIONS))
    if as_json:
        output.print_json({"path": str(path), "leaves": leaves, "decisions": decisions, "parts": len(bundle.parts)})
    else:
        click.echo(f"{path}: {leaves} leaves of the log, {decisions} decisions with their evidence")


@audit_command.command("verify")
@click.argument("path")
@click.option("--broker-fingerprint", required=True, metavar="DIGEST", help="The broker whose decisions these must be.")
@click.option(
    "--owner",
    "owners",
    multiple=True,
    metavar="[TENANT=]FILE",
    help="Public keys of who may sign policies, perhaps of one tenant alone; repeatable.",
)
@click.option("--anchor", metavar="FILE", help="PEM of an installation root, for simulated TEEs.")
@click.option("--exporter", metavar="FILE", help="Public key of who must have signed the bundle.")
@click.option("--accept-simulated", is_flag=True, help="Accept decisions about simulated TEEs, which protect nothing.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was found for people to read (Markdown).",
)
@quorum_options
@signed_options
@output.json_option
def verify_bundle(
    path: str,
    broker_fingerprint: str,
    owners: tuple[str, ...],
    anchor: str | None,
    exporter: str | None,
    report: Path | None,
    enrollers: tuple[str, ...],
    named: tuple[str, ...],
    least: int | None,
    *,
    accept_simulated: bool,
    as_json: bool,
    **signed: Any,
) -> int:
    """Check a bundle offline, with public keys only: signatures, log, chains, and every piece of evidence again."""
    everybodys, tenants = _owners(owners)
    trust = AuditTrust(
        broker=digest(broker_fingerprint),
        owners=everybodys,
        tenants=tenants,
        anchors=load_anchors(anchor, enrollers=enrollers),
        exporter=public_from_pem(output.read_file(exporter)) if exporter is not None else None,
        accept_simulated=accept_simulated,
        known=read_known(**signed),
        witnesses=quorum(named, least),
    )
    audit = verify(files.read(output.read_file(path, limit=files.MAX_BYTES)), trust)
    if report is not None:
        output.write_file(report, to_markdown(audit).encode())
    _show(audit, as_json=as_json)
    return 0 if audit.accepted else 1


def _owners(named: Iterable[str]) -> tuple[tuple[PublicKey, ...], dict[str, tuple[PublicKey, ...]]]:
    """The keys that count for every tenant, and those that count for one."""
    everybodys: list[PublicKey] = []
    tenants: dict[str, tuple[PublicKey, ...]] = {}
    for text in named:
        tenant, equals, path = text.partition("=")
        if equals and "/" not in tenant:
            tenants[check_tenant(tenant)] = (*tenants.get(tenant, ()), public_from_pem(output.read_file(path)))
        else:
            everybodys.append(public_from_pem(output.read_file(text)))
    return tuple(everybodys), tenants


def _show(audit: Audit, *, as_json: bool) -> None:
    if as_json:
        found = [
            {"number": f.number, "id": f.id, "status": f.status.value, "items": f.items, "detail": f.detail}
            for f in audit.findings
        ]
        output.print_json({"accepted": audit.accepted, "checks": found})
        return
    rows = [(f.number, output.MARKS[f.status], f.id, f.detail) for f in audit.findings]
    output.table(("NO", "", "CHECK", "FOUND"), rows)
    points = len(audit.open_points)
    click.echo(
        "the bundle holds" if audit.accepted else f"the bundle does not hold: {points} of its checks do not stand"
    )
