"""`strongroom tenants`, and what `strongroom serve` is told of tenants: who may ask, whose cache, whose adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from strongroom.channel.credential import key_digest, new_key
from strongroom.cli import output
from strongroom.cli.output import F
from strongroom.crypto.signatures import PublicKey, public_from_pem
from strongroom.errors import UsageError

if TYPE_CHECKING:
    from strongroom.services.gateway import Within
    from strongroom.services.tenancy.file import Tenants


@click.group("tenants", short_help="who may ask a worker: keys and the file of tenants")
def tenants_command() -> None:
    """A worker that is told of tenants answers nobody else."""


@tenants_command.command("key")
@output.json_option
def key_command(*, as_json: bool) -> None:
    """Make an API key. It is printed once; the digest goes into the file of tenants, which holds no secret."""
    key = new_key()
    said = {"key": key, "digest": str(key_digest(key))}
    if as_json:
        output.print_json(said)
    else:
        click.echo(f"key      {said['key']}\ndigest   {said['digest']}")


@tenants_command.command("check")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@output.json_option
def check_command(file: Path, *, as_json: bool) -> None:
    """Judge a file of tenants, and print the digest that a worker's configuration will name."""
    from strongroom.services.tenancy.file import read_tenants

    found = read_tenants(file)
    if as_json:
        output.print_json({"digest": found.digest, "tenants": [tenant.name for tenant in found.tenants]})
    else:
        click.echo(f"{len(found.tenants)} tenants\n{found.digest}")


def tenant_options(command: F) -> F:
    """The options of `strongroom serve`."""
    file = click.option(
        "--tenants",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File of tenants: who may ask, and how much; nobody else may.",
    )
    adapter = click.option(
        "--adapter",
        "adapters",
        multiple=True,
        metavar="TENANT=REF[,SIGNER]",
        help="A sealed adapter for one tenant; SIGNER: its owner's public key, if another than --signer. Repeatable.",
    )
    cache = click.option(
        "--cache", is_flag=True, help="Keep prefixes of prompts for each tenant apart; needs --tenants."
    )
    return file(adapter(cache(command)))


@dataclass(frozen=True, slots=True)
class Tenancy:
    """What `strongroom serve` makes of them: settings of the engine, what is measured besides, and what is opened."""

    tenants: Tenants | None = None
    engine: dict[str, str | int] = field(default_factory=dict)
    measured: dict[str, str | int] = field(default_factory=dict)
    references: list[tuple[str, PublicKey]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def around(self, inner: Within | None) -> Within | None:
        """The layers inside the seal: first who asks, then `inner`."""
        from strongroom.services.tenancy.layer import Door

        tenants, cache = self.tenants, bool(self.engine.get("cache_prompt"))
        if tenants is None:
            return inner
        return lambda app: Door(app if inner is None else inner(app), tenants, cache=cache, adapters=self.places)


def tenancy(file: Path | None, adapters: tuple[str, ...], signer: PublicKey, *, cache: bool) -> Tenancy:
    """What the options say. Raises `UsageError` for an adapter of nobody's, and for either of the others without tenants."""
    from strongroom.services.tenancy.file import read_tenants

    if file is None:
        if adapters or cache:
            raise UsageError("--adapter and --cache without --tenants", remedy="Name the file of tenants.")
        return Tenancy()
    tenants = read_tenants(file)
    names, made = {tenant.name for tenant in tenants.tenants}, Tenancy(tenants)
    made.measured["tenants"] = tenants.digest
    if cache:
        made.engine["cache_prompt"] = 1
    for place, word in enumerate(adapters):
        name, _, rest = word.partition("=")
        reference, _, key = rest.partition(",")
        if name not in names or name in made.places or not reference:
            raise UsageError("an adapter is TENANT=REF for a tenant in the file, one for each", detail=name[:64])
        made.places[name] = place
        made.references.append((reference, public_from_pem(output.read_file(key)) if key else signer))
        made.measured[f"adapter.{name}"] = place + 1
    return made
