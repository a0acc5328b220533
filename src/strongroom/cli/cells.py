"""`strongroom cells`: counters and budgets that a broker keeps for workers."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli import output
from strongroom.cli.remote import broker_client, broker_options
from strongroom.records import codec
from strongroom.records.cell import Cell, CellKind
from strongroom.release.wire import CellCreation


@click.group("cells", short_help="counters and budgets at a broker")
def cells_command() -> None:
    """Counters, which only grow, and budgets, which only fall; workers move them under their leases."""


@cells_command.command("create")
@click.argument("cell_id")
@click.option("--kind", type=click.Choice(["counter", "budget"]), required=True)
@click.option("--policy-id", required=True, help="Workers with a lease under this policy move the cell.")
@click.option("--limit", type=click.IntRange(min=1), help="What a budget begins with, in whole units of your choice.")
@click.option(
    "--output-key", metavar="KEY_ID", help="The key, under the same policy, that a budget's spends are granted."
)
@broker_options
@output.json_option
def create(
    cell_id: str,
    kind: str,
    policy_id: str,
    limit: int | None,
    output_key: str | None,
    broker: str,
    broker_fingerprint: str,
    identity: Path,
    *,
    as_json: bool,
) -> None:
    """Create the cell CELL_ID at the broker. Nobody resets it or gives it more."""
    wanted = CellCreation(cell_id, CellKind(kind), policy_id, limit, output_key)
    cell = broker_client(broker, broker_fingerprint, identity).create_cell(wanted)
    if as_json:
        output.print_json(codec.to_json(cell))
    else:
        click.echo(f"{cell_id} created, a {kind} at {cell.value}, moved under policy {policy_id}")


@cells_command.command("list")
@broker_options
@output.json_option
def list_cells(broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """The cells at the broker, as they stand."""
    _print(broker_client(broker, broker_fingerprint, identity).cells(), as_json=as_json)


@cells_command.command("show")
@click.argument("cell_id")
@broker_options
@output.json_option
def show(cell_id: str, broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """One cell, as it stands."""
    cell = broker_client(broker, broker_fingerprint, identity).cell(cell_id)
    if as_json:
        output.print_json(codec.to_json(cell))
    else:
        _print((cell,), as_json=False)
        click.echo(f"output key  {cell.output_key or 'none'}\ndigest      {cell.digest or 'none yet'}")


def _print(cells: tuple[Cell, ...], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"cells": [codec.to_json(cell) for cell in cells]})
        return
    rows = [(c.id, c.kind.value, c.value, "-" if c.limit is None else c.limit, c.changes, c.policy_id) for c in cells]
    output.table(("CELL", "KIND", "VALUE", "LIMIT", "CHANGES", "POLICY"), rows)
