"""`strongroom ocicrypt`: artifacts encrypted for skopeo, containerd and Confidential Containers, and theirs opened."""

from __future__ import annotations

import re
from pathlib import Path

import click

from strongroom.cli import output


@click.group("ocicrypt", short_help="artifacts that skopeo, containerd and guests' agents decrypt")
def ocicrypt_command() -> None:
    """Encrypt for tools that know ocicrypt, and decrypt what they encrypted. Use `seal` where you can: it also signs."""


@ocicrypt_command.command("encrypt")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("reference")
@click.option(
    "--recipient", "recipients", multiple=True, required=True, metavar="PEM",
    help="Public key of who can decrypt it: RSA from 2048 bits, P-256, P-384 or P-521; once for each.",
)  # fmt: skip
@output.json_option
def encrypt_command(source: Path, reference: str, recipients: tuple[str, ...], *, as_json: bool) -> None:
    """Encrypt SOURCE (a folder or a file) into the registry at REFERENCE as a ModelPack artifact. Nothing is signed."""
    from strongroom.sealed.ocicrypt.encrypt import encrypt
    from strongroom.sealed.ocicrypt.keys import recipient_from_pem
    from strongroom.sealed.registries import from_reference

    keys = [recipient_from_pem(output.read_file(path)) for path in recipients]
    registry, tag = from_reference(reference)
    progress = output.Progress("encrypting", quiet=as_json)
    made = encrypt(source, registry, keys, tag=tag, progress=progress)
    files = [{"path": file.path, "size": file.size} for file in made.files]
    if as_json:
        output.print_json({"digest": made.digest, "reference": reference, "files": files})
    else:
        output.table(("FILE", "BYTES"), [(file["path"], file["size"]) for file in files])
        click.echo(f"{reference}\n{made.digest}")


@ocicrypt_command.command("decrypt")
@click.argument("reference")
@click.argument("target")
@click.option("--key", required=True, metavar="PEM", help="A recipient's private key, unencrypted.")
@output.json_option
def decrypt_command(reference: str, target: str, key: str, *, as_json: bool) -> None:
    """Decrypt the artifact at REFERENCE into TARGET: a new folder, or an image layout (dir:PATH[:TAG])."""
    from strongroom.sealed.ocicrypt.decrypt import decrypt_into_directory, decrypt_into_registry
    from strongroom.sealed.ocicrypt.keys import private_from_pem
    from strongroom.sealed.registries import from_reference

    private = private_from_pem(output.read_file(key))
    progress = output.Progress("decrypting", quiet=as_json)
    if re.match(r"[a-z0-9]+:", target):
        digest = decrypt_into_registry(*from_reference(reference), *from_reference(target), private, progress=progress)
        output.print_json({"digest": digest, "target": target}) if as_json else click.echo(f"{target}\n{digest}")
        return
    found = decrypt_into_directory(*from_reference(reference), Path(target), private, progress=progress)
    files = [{"path": file.path, "size": file.size} for file in found]
    if as_json:
        output.print_json({"target": target, "files": files})
    else:
        output.table(("FILE", "BYTES"), [(file["path"], file["size"]) for file in files])
