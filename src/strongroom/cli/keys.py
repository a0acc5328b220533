"""`strongroom keys`: an owner's own keys, and the wrapping keys that a broker keeps for them."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli import output
from strongroom.cli.lifecycle import check_destroyed_command, destroy_command, import_command, order_command
from strongroom.cli.remote import broker_client, broker_options
from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import fingerprint, generate_p256, private_to_pem, public_to_pem
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.release.wire import KeyInfo


@click.group("keys", short_help="your own keys, and wrapping keys at a broker")
def keys_command() -> None:
    """Make your own keys; create or import, list, rotate, retire and destroy the wrapping keys at a broker."""


keys_command.add_command(import_command)
keys_command.add_command(order_command)
keys_command.add_command(destroy_command)
keys_command.add_command(check_destroyed_command)


@keys_command.command("new")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["identity", "recipient"]),
    default="identity",
    help="identity: signs policies, jobs and artifacts (P-256). recipient: opens outputs sealed to it (ML-KEM-768+X25519).",
)
@output.json_option
def new(path: Path, kind: str, *, as_json: bool) -> None:
    """Make a key pair: PATH (private, mode 0600) and PATH.pub."""
    public_path = path.with_name(path.name + ".pub")
    if public_path.exists():
        raise UsageError(
            f"{public_path} is already there", remedy="Choose another name; strongroom overwrites nothing."
        )
    if kind == "identity":
        key = generate_p256()
        private, public, name = private_to_pem(key), public_to_pem(key.public_key()), fingerprint(key.public_key())
    else:
        box = ReleaseKey.generate()
        private, public, name = box.to_bytes(), box.public, None
    output.write_file(path, private, mode=0o600)
    output.write_file(public_path, public)
    if as_json:
        output.print_json({"private": str(path), "public": str(public_path), "kind": kind, "fingerprint": name})
    else:
        click.echo(f"{path} (keep it) and {public_path} (give it away)" + (f"\nfingerprint {name}" if name else ""))


@keys_command.command("create")
@click.argument("key_id")
@click.option(
    "--policy-id", required=True, help="The policy under which this key is released; put it there first or later."
)
@click.option("--uses", type=click.IntRange(min=1), help="How often it may be released at all; renewals do not count.")
@click.option(
    "--per-boot", is_flag=True, help="Release it once per boot of a machine; elsewhere than on a TPM, once per worker."
)
@broker_options
@output.json_option
def create(
    key_id: str,
    policy_id: str,
    uses: int | None,
    broker: str,
    broker_fingerprint: str,
    identity: Path,
    *,
    per_boot: bool,
    as_json: bool,
) -> None:
    """Create the wrapping key KEY_ID at the broker; it never leaves it."""
    info = broker_client(broker, broker_fingerprint, identity).create_key(
        key_id, policy_id, max_uses=uses, per_boot=per_boot
    )
    if as_json:
        output.print_json(codec.to_json(info))
    else:
        limit = ("" if uses is None else f", uses 0/{uses}") + (", once per boot" if per_boot else "")
        click.echo(f"{key_id} created, released under policy {policy_id}{limit}")


@keys_command.command("rotate")
@click.argument("key_id")
@broker_options
@output.json_option
def rotate(key_id: str, broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """Make a further version of KEY_ID, which wraps from now on. Then `rewrap` each artifact; older versions still open."""
    info = broker_client(broker, broker_fingerprint, identity).rotate_key(key_id)
    if as_json:
        output.print_json(codec.to_json(info))
    else:
        click.echo(f"{key_id} has version {info.version}; `strongroom rewrap` brings artifacts under it")


@keys_command.command("retire")
@click.argument("key_id")
@broker_options
@output.json_option
def retire(key_id: str, broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """End the life of KEY_ID: it wraps and releases nothing more, and its leases are not renewed."""
    found = broker_client(broker, broker_fingerprint, identity).retire_key(key_id)
    if as_json:
        output.print_json({"keys": [codec.to_json(key) for key in found]})
    else:
        click.echo(f"{key_id} retired")


@keys_command.command("list")
@broker_options
@output.json_option
def list_keys(broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """The wrapping keys at the broker."""
    found = broker_client(broker, broker_fingerprint, identity).keys()
    if as_json:
        output.print_json({"keys": [codec.to_json(key) for key in found]})
    else:
        output.table(
            ("KEY", "VERSION", "POLICY", "STATE", "USES", "ORIGIN", "MADE", "REFUSED FROM"),
            [
                (k.key_id, k.version, k.policy_id, k.state, _uses(k), k.origin, output.iso(k.created), _refused(k))
                for k in found
            ],
        )


def _uses(key: KeyInfo) -> str:
    uses = [] if key.max_uses is None else [f"{key.used}/{key.max_uses}"]
    return ", ".join([*uses, *(["per boot"] if key.per_boot else [])]) or "-"


def _refused(key: KeyInfo) -> str:
    return "-" if key.refused_from is None else output.iso(key.refused_from)
