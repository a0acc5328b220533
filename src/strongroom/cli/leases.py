"""`strongroom leases`: who holds keys now, and ending it."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli import output
from strongroom.cli.remote import broker_client, broker_options
from strongroom.records import codec


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
        rows = [(x.id, x.state.value, ",".join(x.key_ids), x.renewals, x.expires, x.keyset[:19]) for x in found]
        output.table(("LEASE", "STATE", "KEYS", "RENEWALS", "EXPIRES", "KEYSET"), rows)


@leases_command.command("revoke")
@click.argument("lease_id")
@broker_options
@output.json_option
def revoke(lease_id: str, broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """End a lease. Its worker drains, wipes and stops at its next renewal, at the latest when its term is over."""
    broker_client(broker, broker_fingerprint, identity).revoke(lease_id)
    if as_json:
        output.print_json({"revoked": lease_id})
    else:
        click.echo(f"{lease_id} revoked")
