"""`strongroom seal`, `open` and `inspect`: artifacts in registries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from strongroom.cli import output
from strongroom.cli.remote import broker_client
from strongroom.cli.signing import certificate_option, identity_option, opened_signer, read_trust, signed_by_options
from strongroom.crypto import pkcs11uri
from strongroom.crypto.hpke import RELEASE_PUBLIC_BYTES
from strongroom.errors import Unreadable, UsageError
from strongroom.records.artifact import ArtifactKind, KeyWrap
from strongroom.records.release import Edition

if TYPE_CHECKING:
    from strongroom.sealed.open import Floor
    from strongroom.sealed.signing import Signer
    from strongroom.sealed.wrapping import Wrap

KINDS = click.Choice([kind.value for kind in ArtifactKind])


@click.command("seal", short_help="seal a folder or file: encrypted, signed, in a registry")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("reference")
@identity_option
@certificate_option
@click.option("--key", help="A wrapping key at a broker (`keys create`): workers get the data key by proof.")
@click.option("--broker", metavar="URL")
@click.option("--broker-fingerprint", metavar="DIGEST")
@click.option(
    "--broker-identity", metavar="FILE", help="Your private key at the broker, where --identity is not in a file."
)
@click.option(
    "--recipient", "recipients", multiple=True, metavar="FILE", help="Public key of who can open it without a broker."
)
@click.option(
    "--segment",
    "segment_mebibytes",
    type=click.Choice(["1", "4"]),
    default="1",
    show_default=True,
    help="MiB of each segment: 4 where all is read whole over a network, 1 where parts are.",
)
@click.option("--kind", type=KINDS, default="model", show_default=True)
@click.option("--follows", metavar="REF", help="The artifact of which this is the next edition; you signed it, too.")
@click.option(
    "--pad-to", type=click.IntRange(1), default=1, show_default=True, help="Round sizes up to multiples of this."
)
@output.json_option
def seal_command(
    source: Path,
    reference: str,
    identity: str,
    certificates: tuple[str, ...],
    key: str | None,
    broker: str | None,
    broker_fingerprint: str | None,
    broker_identity: str | None,
    recipients: tuple[str, ...],
    segment_mebibytes: str,
    kind: str,
    follows: str | None,
    pad_to: int,
    *,
    as_json: bool,
) -> None:
    """Seal SOURCE (a folder or a file) into the registry at REFERENCE (dir:PATH[:TAG], oci://HOST/NAME[:TAG]), encrypted and signed."""
    from strongroom.sealed.registries import from_reference
    from strongroom.sealed.seal import seal

    wrap = wrapping(
        recipients,
        key=key,
        broker=broker,
        broker_fingerprint=broker_fingerprint,
        identity=broker_identity or identity,
    )
    registry, tag = from_reference(reference)
    with opened_signer(identity, certificates) as signer:
        made = seal(
            source,
            registry,
            kind=ArtifactKind(kind),
            wrap=wrap,
            signer=signer,
            tag=tag,
            segment_bytes=int(segment_mebibytes) << 20,
            pad_to=pad_to,
            follows=None if follows is None else _edition_of(follows, signer),
            progress=output.Progress("sealing", quiet=as_json),
        )
    files = [{"path": file.path, "size": file.size} for file in made.index.files]
    if as_json:
        output.print_json({"digest": made.digest, "reference": reference, "files": files})
    else:
        output.table(("FILE", "BYTES"), [(file["path"], file["size"]) for file in files])
        click.echo(f"{reference}\n{made.digest}")


def wrapping(
    recipients: tuple[str, ...], *, key: str | None, broker: str | None, broker_fingerprint: str | None, identity: str
) -> Wrap:
    """How the data key can be had again, as the options say. Raises `UsageError` where nobody could have it."""
    from strongroom.sealed.wrapping import wrap_to

    boxes = wrap_to([_recipient(path) for path in recipients]) if recipients else None
    if key is None and boxes is None:
        raise UsageError("nobody could open this", remedy="Name a --key at a broker, or a --recipient.")
    if key is not None and (broker is None or broker_fingerprint is None):
        raise UsageError("a --key lies at a broker", remedy="Name it with --broker and --broker-fingerprint.")
    if key is not None and pkcs11uri.is_uri(identity):
        raise UsageError("the broker knows you by a key in a file", remedy="Name it with --broker-identity.")

    def wrap(of: Edition, data_key: bytes) -> KeyWrap:
        found = boxes(of, data_key).recipients if boxes else ()
        if key is None or broker is None or broker_fingerprint is None:
            return KeyWrap(broker=None, recipients=found)
        wrapped = broker_client(broker, broker_fingerprint, Path(identity)).wrap(key, of, data_key)
        return KeyWrap(broker=wrapped, recipients=found)

    return wrap


def _edition_of(reference: str, signer: Signer) -> Edition:
    """The artifact at `reference`, which the same signer signed."""
    from strongroom.sealed.open import Opener
    from strongroom.sealed.registries import from_reference

    return Opener(*from_reference(reference), signer_public=signer.public).header.of


def _recipient(path: str) -> bytes:
    """A recipient's public key. Raises `Unreadable` errors."""
    key = output.read_file(path)
    if len(key) != RELEASE_PUBLIC_BYTES:
        raise Unreadable(
            f"{path} is not a recipient's public key",
            remedy="Name the .pub file that `strongroom keys new --kind recipient` made.",
        )
    return key


floor_option = click.option(
    "--floor", metavar="LINE:EDITION", help="Only this line of artifacts (`inspect`), and no edition before this one."
)


def floor_of(text: str | None) -> Floor | None:
    """Raises `UsageError` for what is no line and edition."""
    from strongroom.sealed.open import Floor

    if text is None:
        return None
    line, _, edition = text.partition(":")
    if not re.fullmatch(r"[0-9a-f]{32}", line) or not re.fullmatch(r"[1-9][0-9]{0,8}", edition):
        raise UsageError(
            f"{text!r} is not a line and an edition", remedy="Write it as `strongroom inspect` does: HEX:NUMBER."
        )
    return Floor(bytes.fromhex(line), int(edition))


@click.command("open", short_help="open an artifact that is sealed to you")
@click.argument("reference")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--key", required=True, metavar="FILE", help="Your recipient's private key (`keys new --kind recipient`)."
)
@signed_by_options
@floor_option
@output.json_option
def open_command(
    reference: str,
    target: Path,
    key: str,
    signer: str | None,
    roots: tuple[str, ...],
    subject: str | None,
    at: int | None,
    floor: str | None,
    *,
    as_json: bool,
) -> None:
    """Open an artifact that is sealed to you into the new folder TARGET."""
    from strongroom.crypto.hpke import ReleaseKey
    from strongroom.sealed.open import Opener
    from strongroom.sealed.registries import from_reference
    from strongroom.sealed.wrapping import unwrap

    registry, tag = from_reference(reference)
    trust = read_trust(signer, roots, subject, at)
    if trust is None:
        raise UsageError("nobody is trusted to have sealed this", remedy="Name --signer, or --root with --subject.")
    opener = Opener(registry, tag, signer_public=trust, floor=floor_of(floor))
    data_key = unwrap(opener.header, ReleaseKey.from_bytes(output.read_file(key)))
    with opener.open(data_key) as artifact:
        artifact.into_directory(target, progress=output.Progress("opening", quiet=as_json))
        files = [{"path": file.path, "size": file.size} for file in artifact.files]
    if as_json:
        output.print_json({"digest": opener.digest, "target": str(target), "files": files})
    else:
        output.table(("FILE", "BYTES"), [(file["path"], file["size"]) for file in files])


@click.command("inspect", short_help="what anybody can see of an artifact without a key")
@click.argument("reference")
@signed_by_options
@output.json_option
def inspect_command(
    reference: str, signer: str | None, roots: tuple[str, ...], subject: str | None, at: int | None, *, as_json: bool
) -> None:
    """Say what anybody can see of an artifact without a key. Exit 1 if who is named did not sign it."""
    from strongroom.sealed.open import inspect
    from strongroom.sealed.registries import from_reference

    found = inspect(*from_reference(reference), signer_public=read_trust(signer, roots, subject, at))
    facts = {
        "digest": found.digest,
        "kind": found.kind.value,
        "line": found.line.hex(),
        "edition": found.edition,
        "segment_bytes": found.segment_bytes,
        "layers": list(found.layers),
        "broker_key": found.broker_key,
        "recipients": list(found.recipients),
        "signed": found.signed,
    }
    if as_json:
        output.print_json(facts)
    else:
        output.table(
            ("WHAT", "VALUE"), [(name, "not checked" if value is None else value) for name, value in facts.items()]
        )
    if found.signed is False:
        raise click.exceptions.Exit(1)
