"""`strongroom broker explain` and `strongroom policy put --dry-run`: what a broker would decide, and nothing changes."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.appraisal.explain import cause
from strongroom.cli import output
from strongroom.cli.evidence_files import read_evidence
from strongroom.cli.remote import broker_client, broker_options
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.records.explanation import Explanation, PolicyTrial
from strongroom.records.verdict import Status


@click.command("explain")
@click.argument("evidence")
@click.option("--key", "keys", multiple=True, metavar="KEY_ID", help="A key that a worker would ask for; repeatable.")
@click.option("--draft", metavar="FILE", help="A signed policy that is not in force, to be judged as if it were.")
@broker_options
@output.json_option
def explain_command(
    evidence: str,
    keys: tuple[str, ...],
    draft: str | None,
    broker: str,
    broker_fingerprint: str,
    identity: Path,
    *,
    as_json: bool,
) -> None:
    """Ask the broker what it would decide about EVIDENCE: every check under each key's policy, and the lease.

    Nothing changes, and nothing is released. Whether the evidence is fresh is not judged.
    """
    if not keys and draft is None:
        raise UsageError("there is nothing to explain", remedy="Name keys with --key, or a policy with --draft.")
    bundle = read_evidence(evidence).bundle
    if bundle is None:
        raise UsageError(
            f"{evidence} is a bare quote, not a worker's evidence",
            remedy="Use what a worker gives, or a saved receipt.",
        )
    policy = None if draft is None else Envelope.from_bytes(output.read_file(draft))
    found = broker_client(broker, broker_fingerprint, identity).explain(bundle, keys, policy)
    if as_json:
        output.print_json(codec.to_json(found))
    else:
        _show(found)
    good = found.lease_seconds is not None if keys else all(one.accepted for one in found.policies)
    if not good:
        raise click.exceptions.Exit(1)


def show_trial(trial: PolicyTrial, *, as_json: bool) -> None:
    """What a policy would do to live leases. Exits with 1 unless it could be put and all of them would go on."""
    if as_json:
        output.print_json(codec.to_json(trial))
    else:
        rows = [
            (
                output.MARKS[one.status],
                one.lease_id,
                ",".join(one.key_ids),
                _why(one.status, [c.id for c in one.failed]),
            )
            for one in trial.leases
        ]
        output.table(("", "LEASE", "KEYS", "CHECKS THAT WOULD NOT PASS"), rows)
        passes = sum(one.status is Status.PASS for one in trial.leases)
        left = f"; {trial.left_out} more were not tried" if trial.left_out else ""
        click.echo(
            f"{trial.id} version {trial.version}: {passes} of {len(trial.leases)} live leases would go on{left}; nothing changed"
        )
        if not trial.newer:
            click.echo("the broker has this version or a newer one: it would not take this policy")
    if not trial.newer or trial.left_out or any(one.status is not Status.PASS for one in trial.leases):
        raise click.exceptions.Exit(1)


def _show(found: Explanation) -> None:
    for policy in found.policies:
        draft = ", not in force" if policy.draft else ""
        outcome = "admits it" if policy.accepted else "refuses it"
        click.echo(f"{policy.id} version {policy.version}{draft}: {outcome} ({policy.level.value})")
        output.checks(policy.checks)
        for check in policy.checks:
            if check.status is not Status.PASS and (why := cause(check)):
                click.echo(f"      {check.id}, usually: {why}")
    for key in found.keys:
        click.echo(f"{key.key_id}: {f'{key.reason} ({key.code})' if key.code else f'under policy {key.policy_id}'}")
    if found.lease_seconds is not None:
        click.echo(f"would be released, under a lease of {found.lease_seconds} seconds")
    elif found.keys:
        click.echo("nothing would be released")


def _why(status: Status, failed: list[str]) -> str:
    return "its evidence is not kept, or not understood" if status is Status.NOT_RUN else ", ".join(failed) or "-"
