"""`strongroom administrators`: who may act at a broker, as what, for whom."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli import output
from strongroom.cli.remote import broker_client, broker_options, digest
from strongroom.crypto.signatures import public_from_pem
from strongroom.records import codec
from strongroom.release.roles import EVERY, Administrator, Role


@click.group("administrators", short_help="who may act at a broker, as what, for whom")
def administrators_command() -> None:
    """Who may act at a broker. Its roots are named when it starts (--owner); they appoint the others."""


@administrators_command.command("add")
@click.argument("public_key")
@click.option(
    "--role",
    required=True,
    type=click.Choice([role.value for role in Role if role is not Role.ROOT]),
    help="owner: policies, keys, cells, leases, audits. operator: sees, revokes leases, retires keys. auditor: only reads.",
)
@click.option("--tenant", required=True, metavar="TENANT", help=f"For whom; '{EVERY}' is every tenant and the house.")
@broker_options
@output.json_option
def add(
    public_key: str, role: str, tenant: str, broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool
) -> None:
    """Appoint the holder of PUBLIC_KEY (a file), as a root."""
    key = public_from_pem(output.read_file(public_key))
    made = broker_client(broker, broker_fingerprint, identity).add_administrator(key, Role(role), tenant)
    _one(made, "appointed", as_json=as_json)


@administrators_command.command("list")
@broker_options
@output.json_option
def list_administrators(broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """Who may act at the broker, as far as you may know."""
    found = broker_client(broker, broker_fingerprint, identity).administrators()
    if as_json:
        output.print_json({"administrators": [codec.to_json(one) for one in found]})
    else:
        rows = [(x.fingerprint, x.role.value, x.tenant, x.added or "-", (x.added_by or "--owner")[:19]) for x in found]
        output.table(("ADMINISTRATOR", "ROLE", "TENANT", "ADDED", "BY"), rows)


@administrators_command.command("remove")
@click.argument("fingerprint")
@broker_options
@output.json_option
def remove(fingerprint: str, broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """End the administrator whose key has FINGERPRINT: their requests, and policies that only they signed, count no more."""
    gone = broker_client(broker, broker_fingerprint, identity).remove_administrator(digest(fingerprint))
    _one(gone, "removed", as_json=as_json)


def _one(administrator: Administrator, what: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json(codec.to_json(administrator))
    else:
        tenant = "every tenant" if administrator.tenant == EVERY else administrator.tenant
        click.echo(f"{administrator.fingerprint} {what}, {administrator.role.value} of {tenant}")
