"""`strongroom keys import|order|destroy|check-destroyed`: how keys at a broker come from elsewhere, age and end."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import click

from strongroom.cli import output
from strongroom.cli.remote import broker_client, broker_options, digest
from strongroom.cli.witness import quorum, quorum_options
from strongroom.errors import FileUnreadable, UsageError
from strongroom.receipts.destruction import check_destruction
from strongroom.records import codec
from strongroom.records.destruction import DestructionDocument, KeyDestruction, KeyOrigin
from strongroom.release.roots import KEY_BYTES


@click.command("import")
@click.argument("key_id")
@click.option(
    "--policy-id", required=True, help="The policy under which this key is released; put it there first or later."
)
@click.option(
    "--from-file",
    "path",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The key: 32 random bytes in a file that nobody else can read.",
)
@click.option("--uses", type=click.IntRange(min=1), help="How often it may be released at all; renewals do not count.")
@broker_options
@output.json_option
def import_command(
    key_id: str,
    policy_id: str,
    path: Path,
    uses: int | None,
    broker: str,
    broker_fingerprint: str,
    identity: Path,
    *,
    as_json: bool,
) -> None:
    """Give a wrapping key that you made elsewhere to the broker, as KEY_ID. It travels sealed, and replaces no key.

    Whoever else has these bytes can open what is wrapped under them, also after the broker destroyed its own.
    """
    kek = read_secret(path)
    info = broker_client(broker, broker_fingerprint, identity).import_key(key_id, policy_id, kek, max_uses=uses)
    if as_json:
        output.print_json(codec.to_json(info))
    else:
        click.echo(f"{key_id} imported, released under policy {policy_id}")


@click.command("order")
@click.argument("key_id")
@click.option(
    "--least-version",
    required=True,
    type=click.IntRange(min=2),
    help="What is wrapped under versions below is refused.",
)
@click.option("--from", "since", type=output.Moment(), help="From this moment on; else at once.")
@broker_options
@output.json_option
def order_command(
    key_id: str,
    least_version: int,
    since: int | None,
    broker: str,
    broker_fingerprint: str,
    identity: Path,
    *,
    as_json: bool,
) -> None:
    """Order that artifacts under old versions of KEY_ID be brought under a new one: from a moment on they are refused.

    `strongroom rewrap` does that. An order is never taken back, only made stricter. Workers that hold a data key already
    go on: for one that is distrusted, use `strongroom rekey` and raise the floor of editions in the policy.
    """
    moment = int(time.time()) if since is None else since
    found = broker_client(broker, broker_fingerprint, identity).order_rekey(key_id, least_version, moment)
    if as_json:
        output.print_json({"keys": [codec.to_json(key) for key in found]})
    else:
        click.echo(
            f"{key_id}: what is wrapped under versions below {least_version} is refused from {output.iso(moment)} on"
        )


@click.command("destroy")
@click.argument("key_id")
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the proof goes.",
)
@broker_options
@output.json_option
def destroy_command(
    key_id: str, target: Path, broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool
) -> None:
    """Destroy the retired key KEY_ID for ever: what is wrapped under it opens nowhere any more. Leases that hold it end.

    The proof is signed by the broker and in its log; asked again, it gives the same one. It does not reach backups.
    """
    if target.exists():
        raise UsageError(f"{target} is already there", remedy="Choose another name; strongroom overwrites nothing.")
    document = broker_client(broker, broker_fingerprint, identity).destroy_key(key_id)
    output.write_file(target, codec.encode(document))
    found = check_destruction(document, digest(broker_fingerprint))
    _show(found, document, as_json=as_json)
    if not as_json:
        click.echo(f"the proof is in {target}; check it with `strongroom keys check-destroyed`")


@click.command("check-destroyed")
@click.argument("path")
@click.option("--broker-fingerprint", required=True, metavar="DIGEST", help="The broker that must have destroyed it.")
@quorum_options
@output.json_option
def check_destroyed_command(
    path: str, broker_fingerprint: str, named: tuple[str, ...], least: int | None, *, as_json: bool
) -> None:
    """Check offline the proof in PATH that a broker destroyed a key."""
    document = codec.decode(DestructionDocument, output.read_file(path))
    found = check_destruction(document, digest(broker_fingerprint), quorum(named, least))
    _show(found, document, as_json=as_json)


def read_secret(path: Path) -> bytes:
    """The 32 bytes of a key in a file of its owner's alone. Raises `FileUnreadable`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise FileUnreadable(
                    "a secret key is in a file that nobody else can read",
                    detail=str(path),
                    remedy=f"If nobody else was here: chmod 600 {path}; otherwise make another key.",
                )
            data = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    if len(data) != KEY_BYTES:
        raise FileUnreadable(
            f"a key to be imported has {KEY_BYTES} bytes",
            detail=str(path),
            remedy="Give the raw bytes, not hexadecimal digits or base64.",
        )
    return data


def _show(found: KeyDestruction, document: DestructionDocument, *, as_json: bool) -> None:
    if as_json:
        logged = {"index": document.proof.index}
        output.print_json({"accepted": True, "destruction": codec.to_json(found), "logged": logged})
        return
    count = len(found.versions)
    click.echo(
        f"{found.key_id}: {count} version{'s' * (count > 1)} destroyed at {output.iso(found.time)}, log entry {document.proof.index}"
    )
    if any(one.origin is KeyOrigin.IMPORTED for one in found.versions):
        click.echo("it was imported: this says nothing of other copies of those bytes")
