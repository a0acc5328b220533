"""`strongroom sign` and `verify-signature`: plain folders under OpenSSF Model Signing; and how commands name signers and trust.

Knows: options, prompts. Does not know: formats (`sealed.signing`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import click
from cryptography.x509 import Certificate

from strongroom.cli import output
from strongroom.cli.output import F
from strongroom.cli.pins import ask_pin
from strongroom.crypto import pkcs11uri
from strongroom.crypto.signatures import PublicKey, private_from_pem, public_from_pem
from strongroom.errors import UsageError
from strongroom.sealed.signing import (
    GIT_PLACES,
    MAX_BUNDLE_BYTES,
    CertifiedSigner,
    KeySigner,
    Signer,
    Trust,
    TrustedRoots,
    load_certificates,
    sign_files,
    verify_files,
)

identity_option = click.option(
    "--identity",
    required=True,
    metavar="FILE|URI",
    help="Your private key, which signs: a file, or a pkcs11: address of a key in a token.",
)
certificate_option = click.option(
    "--certificate",
    "certificates",
    multiple=True,
    metavar="FILE|URI",
    help="Your key's certificate, then those above it: PEM files, or pkcs11: addresses.",
)
_TRUST = (
    click.option("--signer", metavar="FILE", help="Public key of who must have signed."),
    click.option(
        "--root",
        "roots",
        multiple=True,
        metavar="FILE",
        help="Or CA certificates (PEM) that you trust to name signers.",
    ),
    click.option(
        "--subject", metavar="NAME", help="With --root: who signed. A common name, or email:…, uri:…, dns:…, dn:…."
    ),
    click.option(
        "--at",
        type=output.Moment(),
        metavar="TIME",
        help="With --root: when certificates must be valid (default: now).",
    ),
)
ignore_option = click.option(
    "--ignore", "ignored", multiple=True, metavar="PATH", help="A path below the folder that is left out of account."
)
links_option = click.option("--allow-symlinks", "links", is_flag=True, help="Links to files count as the files.")


def signed_by_options(command: F) -> F:
    """The options that `read_trust` takes."""
    return reduce(lambda made, option: option(made), reversed(_TRUST), command)


def read_trust(
    signer: str | None, roots: Sequence[str], subject: str | None, at: int | None
) -> PublicKey | Trust | None:
    """Whose signature counts, or None where nobody is named. Raises `UsageError` for half of a way, or for two ways."""
    if signer is not None and not (roots or subject or at is not None):
        return public_from_pem(output.read_file(signer))
    if signer is None and roots and subject:
        found = tuple(
            certificate for root in roots for certificate in load_certificates(output.read_file(root), limit=64)
        )
        return TrustedRoots(found, subject, int(time.time()) if at is None else at)
    if signer is None and not (roots or subject or at is not None):
        return None
    raise UsageError(
        "a signer is named by a public key, or by a root and a subject",
        remedy="Name --signer FILE, or --root FILE with --subject NAME.",
    )


@contextmanager
def opened_signer(identity: str, certificates: Sequence[str] = ()) -> Iterator[Signer]:
    """The signer that the options name. Raises what its file, its token or its certificates raise."""
    chain = [certificate for each in certificates for certificate in _certificates(each)]
    if not pkcs11uri.is_uri(identity):
        signer: Signer = KeySigner(private_from_pem(output.read_file(identity)))
        yield CertifiedSigner(signer, chain) if chain else signer
        return
    from strongroom.sealed.signing.token import TokenSigner

    with TokenSigner(pkcs11uri.parse(identity), ask_pin) as signer:
        yield CertifiedSigner(signer, chain) if chain else signer


def _certificates(named: str) -> tuple[Certificate, ...]:
    if not pkcs11uri.is_uri(named):
        return load_certificates(output.read_file(named))
    from strongroom.sealed.signing.token import token_certificate

    return (token_certificate(pkcs11uri.parse(named)),)


@click.command("sign", short_help="sign a plain folder as OpenSSF Model Signing does")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", "target", required=True, metavar="BUNDLE", type=click.Path(path_type=Path))
@identity_option
@certificate_option
@ignore_option
@links_option
@click.option(
    "--git-files",
    is_flag=True,
    help="Sign git's files at the top of the folder, too; else they are left out of account.",
)
@output.json_option
def sign_command(
    path: Path,
    target: Path,
    identity: str,
    certificates: tuple[str, ...],
    ignored: tuple[str, ...],
    *,
    links: bool,
    git_files: bool,
    as_json: bool,
) -> None:
    """Sign the folder or file PATH into the new file BUNDLE, which `model_signing verify` verifies, too."""
    from strongroom.sealed.signing.folder import describe

    left_out = _left_out(path, target, ignored) | (frozenset() if git_files else GIT_PLACES)
    with opened_signer(identity, certificates) as signer:
        files = describe(path, ignored=left_out, links=links, progress=output.Progress("hashing", quiet=as_json))
        output.write_file(target, sign_files(files, signer))
    if as_json:
        output.print_json({"bundle": str(target), "name": files.name, "files": len(files.digests)})
    else:
        click.echo(f"{target}: {len(files.digests)} files of {files.name}")


@click.command("verify-signature", short_help="verify a plain folder against its model signature")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--signature", required=True, metavar="BUNDLE", type=click.Path(path_type=Path))
@signed_by_options
@ignore_option
@links_option
@click.option("--ignore-unsigned", "only_signed", is_flag=True, help="Other files may stand beside the signed ones.")
@output.json_option
def verify_signature_command(
    path: Path,
    signature: Path,
    signer: str | None,
    roots: tuple[str, ...],
    subject: str | None,
    at: int | None,
    ignored: tuple[str, ...],
    *,
    links: bool,
    only_signed: bool,
    as_json: bool,
) -> None:
    """Verify that the folder or file PATH is what BUNDLE signs, and who signed it. Exit 1 if it is not."""
    from strongroom.sealed.signing.folder import compare

    trust = read_trust(signer, roots, subject, at)
    if trust is None:
        raise UsageError(
            "nobody is trusted to sign this", remedy="Name --signer FILE, or --root FILE with --subject NAME."
        )
    signed = verify_files(output.read_file(signature, limit=MAX_BUNDLE_BYTES), trust)
    compare(
        path,
        signed,
        ignored=_left_out(path, signature, ignored),
        links=links,
        only_signed=only_signed,
        progress=output.Progress("hashing", quiet=as_json),
    )
    if as_json:
        facts = {"name": signed.name, "algorithm": signed.algorithm, "signed": len(signed.digests)}
        output.print_json({**facts, "ignored": list(signed.ignored)})
    else:
        click.echo(f"{path} is what was signed as {signed.name}: {len(signed.digests)} {_what(signed.shard_bytes)}")
        if signed.ignored:
            click.echo(f"left out of account by the signer: {', '.join(signed.ignored)}")


def _left_out(path: Path, bundle: Path, ignored: Sequence[str]) -> frozenset[str]:
    """What the person leaves out, and the bundle itself where it lies in the folder. Raises `UsageError`."""
    from strongroom.records.artifact import is_plain_path
    from strongroom.sealed.signing.folder import path_inside

    plain = {each.removesuffix("/") for each in ignored}
    if not all(map(is_plain_path, plain)):
        raise UsageError("what is left out is named by its path below the folder", remedy="As in --ignore docs/drafts.")
    own = path_inside(path, bundle)
    return frozenset(plain if own is None else {*plain, own})


def _what(shard_bytes: int | None) -> str:
    return "files" if shard_bytes is None else "shards of files"
