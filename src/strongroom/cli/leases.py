"""`strongroom leases`: who holds keys now, and ending it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from strongroom.cli import output
from strongroom.cli.output import F
from strongroom.cli.remote import broker_client, broker_options
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.revocation import About, Reason, Subject

SUBJECTS = (
    (About.KEY, "KEY_ID", "A key at the broker."),
    (About.ARTIFACT, "DIGEST", "An artifact, as it lies in its registry."),
    (About.POLICY, "POLICY_ID", "A policy."),
    (About.WORKER, "DIGEST", "A worker, by its keyset."),
    (About.MACHINE, "CLAIM:VALUE", "A machine, as custody lists name it: ppid:…, chip_id:…"),
    (About.TENANT, "NAME", "A tenant: all its keys and policies; '' is the broker's own house."),
)


@click.group("leases", short_help="who holds keys now, and ending it")
def leases_command() -> None:
    """Released keys that still hold: list them, revoke them."""


@leases_command.command("list")
@broker_options
@output.json_option
def list_leases(broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """Every lease that the broker knows."""
    found = broker_client(broker, broker_fingerprint, identity).leases()
    if as_json:
        output.print_json({"leases": [codec.to_json(lease) for lease in found]})
    else:
        rows = [
            (x.id, x.state.value, ",".join(x.key_ids), x.renewals, output.iso(x.expires), x.keyset[:19]) for x in found
        ]
        output.table(("LEASE", "STATE", "KEYS", "RENEWALS", "EXPIRES", "KEYSET"), rows)


def subject_options(command: F) -> F:
    """One option for each kind of thing that a decision concerns."""
    for about, metavar, meaning in reversed(SUBJECTS):
        command = click.option(f"--{about.value}", about.value, metavar=metavar, help=meaning)(command)
    return command


@leases_command.command("revoke")
@click.argument("lease_id", required=False)
@click.option("--lease", metavar="ID", help="One lease, as LEASE_ID; its worker may prove itself anew.")
@subject_options
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    default=Reason.UNSPECIFIED.value,
    show_default=True,
    help="Why; everybody may read it in the log.",
)
@broker_options
@output.json_option
def revoke(
    lease_id: str | None,
    lease: str | None,
    reason: str,
    broker: str,
    broker_fingerprint: str,
    identity: Path,
    *,
    as_json: bool,
    **named: str | None,
) -> None:
    """End a lease; or all leases that concern one thing, for which nothing more is released until it is lifted.

    Workers drain, wipe and stop at their next renewal, at the latest when their term is over.
    """
    leases = [found for found in (lease_id, lease) if found is not None]
    if len(leases) + len(_named(named)) != 1:
        raise UsageError("one thing is revoked at a time", remedy="Name a lease, or give one of the options.")
    client = broker_client(broker, broker_fingerprint, identity)
    if leases:
        client.revoke(leases[0])
        ended, what, document = 1, leases[0], {"revoked": leases[0]}
    else:
        (subject,) = _named(named)
        revoked = client.revoke_subject(subject, Reason(reason))
        ended, what, document = len(revoked.leases), str(subject), codec.to_json(revoked)
    if as_json:
        output.print_json(document)
    elif leases:
        click.echo(f"{what} revoked")
    else:
        click.echo(f"{what} revoked, until it is lifted; leases that this ended: {ended}")


@leases_command.command("revocations")
@broker_options
@output.json_option
def revocations(broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """Every revocation in force."""
    found = broker_client(broker, broker_fingerprint, identity).revocations()
    if as_json:
        output.print_json({"revocations": [codec.to_json(revocation) for revocation in found]})
    else:
        rows = [(x.subject.about.value, x.subject.name, x.since, x.reason.value, x.who[:19]) for x in found]
        output.table(("WHAT", "NAME", "SINCE", "REASON", "WHO"), rows)


@leases_command.command("lift")
@subject_options
@broker_options
@output.json_option
def lift(broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool, **named: str | None) -> None:
    """End a revocation. Leases that it ended stay ended; their workers may prove themselves anew."""
    if len(_named(named)) != 1:
        raise UsageError("one revocation is lifted at a time", remedy="Give one of the options.")
    (subject,) = _named(named)
    left = broker_client(broker, broker_fingerprint, identity).lift(subject)
    if as_json:
        output.print_json({"lifted": str(subject), "revocations": [codec.to_json(revocation) for revocation in left]})
    else:
        click.echo(f"{subject} is no longer revoked")


@leases_command.command("sweep")
@click.option("--dry-run", is_flag=True, help="End nothing; say what would end.")
@broker_options
@output.json_option
def sweep(broker: str, broker_fingerprint: str, identity: Path, *, dry_run: bool, as_json: bool) -> None:
    """Judge every live lease again by the broker's present lists, collateral and policies; end those that fail."""
    pages = list(broker_client(broker, broker_fingerprint, identity).sweep(dry_run=dry_run))
    judged, unjudged = sum(page.judged for page in pages), sum(page.unjudged for page in pages)
    ended = [lease for page in pages for lease in page.ended]
    if as_json:
        found = [codec.to_json(lease) for lease in ended]
        output.print_json({"judged": judged, "unjudged": unjudged, "ended": found, "dry_run": dry_run})
        return
    if ended:
        output.table(("LEASE", "WHAT", "CHECKS"), [(x.lease_id, x.what, ",".join(x.failed)) for x in ended])
    verb = "would end" if dry_run else "ended"
    click.echo(f"leases judged: {judged}, of which {verb}: {len(ended)}; nothing kept of: {unjudged}")


def _named(options: Mapping[str, str | None]) -> list[Subject]:
    return [Subject(About(name), value) for name, value in options.items() if value is not None]
