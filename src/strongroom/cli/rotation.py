"""`strongroom rewrap` and `strongroom rekey`: when keys change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from strongroom.cli import output
from strongroom.cli.remote import broker_client
from strongroom.cli.sealed import floor_of, floor_option, wrapping
from strongroom.cli.signing import certificate_option, identity_option, opened_signer
from strongroom.errors import UsageError
from strongroom.records.artifact import KeyWrap

if TYPE_CHECKING:
    from strongroom.sealed.open import OpenedArtifact, Opener

_OPEN_WITH = click.option("--open-with", metavar="FILE", help="Your recipient's private key, which opens it.")
_KEY = click.option("--key", help="A wrapping key at a broker.")
_BROKER = click.option("--broker", metavar="URL")
_FINGERPRINT = click.option("--broker-fingerprint", metavar="DIGEST")
_BROKER_IDENTITY = click.option(
    "--broker-identity", metavar="FILE", help="Your private key at the broker, if another one signs."
)
_RECIPIENTS = click.option(
    "--recipient", "recipients", multiple=True, metavar="FILE", help="Public key of who can open it from now on."
)


@click.command("rewrap", short_help="wrap an artifact's data key anew; its layers stay")
@click.argument("reference")
@identity_option
@certificate_option
@_BROKER_IDENTITY
@_OPEN_WITH
@_KEY
@_BROKER
@_FINGERPRINT
@_RECIPIENTS
@output.json_option
def rewrap_command(
    reference: str,
    identity: str,
    certificates: tuple[str, ...],
    broker_identity: str | None,
    open_with: str | None,
    key: str | None,
    broker: str | None,
    broker_fingerprint: str | None,
    recipients: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Wrap the data key of the artifact at REFERENCE anew, without encrypting anything again.

    With a broker alone, the broker brings its wrapped key under the newest version (`keys rotate`). With --open-with, the
    data key is wrapped for --key and --recipient, and for nobody else. Whoever had the data key still has it: see `rekey`.
    """
    from strongroom.sealed.open import Opener
    from strongroom.sealed.registries import from_reference
    from strongroom.sealed.rotate import rewrap

    registry, tag = from_reference(reference)
    known = broker_identity or identity
    with opened_signer(identity, certificates) as signer:
        opener = Opener(registry, tag, signer_public=signer.public)
        if open_with is not None:
            wrap = wrapping(recipients, key=key, broker=broker, broker_fingerprint=broker_fingerprint, identity=known)
            with _opened(opener, open_with) as artifact:
                keys = artifact.streams.wrapped(wrap)
        elif broker is None or broker_fingerprint is None or key is not None or recipients:
            raise UsageError(
                "the data key is needed to wrap it for others",
                remedy="Name --open-with; or only --broker and --broker-fingerprint, to follow a rotated key.",
            )
        else:
            wrapped = broker_client(broker, broker_fingerprint, Path(known)).rewrap(opener.wrapped)
            keys = KeyWrap(broker=wrapped, recipients=opener.header.keys.recipients)
        made = rewrap(registry, opener.manifest, keys, signer=signer, tag=tag)
    if as_json:
        output.print_json({"digest": made.digest, "before": opener.digest, "reference": reference})
    else:
        click.echo(f"{reference}\n{made.digest}\npolicies that name {opener.digest} must name this one")


@click.command("rekey", short_help="encrypt an artifact anew, under another data key")
@click.argument("reference")
@click.argument("target")
@identity_option
@certificate_option
@_BROKER_IDENTITY
@click.option(
    "--open-with", required=True, metavar="FILE", help="Your recipient's private key, which opens the old one."
)
@_KEY
@_BROKER
@_FINGERPRINT
@_RECIPIENTS
@floor_option
@output.json_option
def rekey_command(
    reference: str,
    target: str,
    identity: str,
    certificates: tuple[str, ...],
    broker_identity: str | None,
    open_with: str,
    key: str | None,
    broker: str | None,
    broker_fingerprint: str | None,
    recipients: tuple[str, ...],
    floor: str | None,
    *,
    as_json: bool,
) -> None:
    """Encrypt the artifact at REFERENCE anew into TARGET, as the next edition of its line; nothing plain is written.

    For when somebody who held its data key is distrusted. Copies of the old one still open under the old key.
    """
    from strongroom.sealed.open import Opener
    from strongroom.sealed.registries import from_reference
    from strongroom.sealed.rotate import rekey

    wrap = wrapping(
        recipients,
        key=key,
        broker=broker,
        broker_fingerprint=broker_fingerprint,
        identity=broker_identity or identity,
    )
    place, tag = from_reference(target)
    progress = output.Progress("encrypting anew", quiet=as_json)
    with opened_signer(identity, certificates) as signer:
        opener = Opener(*from_reference(reference), signer_public=signer.public, floor=floor_of(floor))
        with _opened(opener, open_with) as artifact:
            made = rekey(artifact, place, wrap=wrap, signer=signer, tag=tag, progress=progress)
    before = opener.digest
    header = made.manifest.header
    if as_json:
        told = {"line": header.line.hex(), "edition": header.edition}
        output.print_json({"digest": made.digest, "before": before, "reference": target, **told})
    else:
        click.echo(f"{target}\n{made.digest}\nfloor {header.line.hex()}:{header.edition} shuts older editions out")


def _opened(opener: Opener, open_with: str) -> OpenedArtifact:
    from strongroom.crypto.hpke import ReleaseKey
    from strongroom.sealed.wrapping import unwrap

    return opener.open(unwrap(opener.header, ReleaseKey.from_bytes(output.read_file(open_with))))
