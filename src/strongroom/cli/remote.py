"""What commands that talk to a broker or a worker share: their options, and how these become objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from strongroom.appraisal.gather import read_anchors, read_enroller
from strongroom.appraisal.policies import from_toml, open_policy
from strongroom.cli import output
from strongroom.cli.output import F
from strongroom.crypto.signatures import private_from_pem, public_from_pem
from strongroom.errors import UsageError
from strongroom.records.digest import Digest, is_digest
from strongroom.records.envelope import Envelope
from strongroom.records.policy import Policy
from strongroom.release.client import BrokerClient
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor


def _options(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


broker_address = _options(
    click.option("--broker", required=True, metavar="URL", help="The broker's address."),
    click.option(
        "--broker-fingerprint",
        required=True,
        metavar="DIGEST",
        help="What `broker serve` prints; the broker must prove it.",
    ),
)

broker_options = _options(
    broker_address,
    click.option(
        "--identity",
        required=True,
        type=click.Path(dir_okay=False, path_type=Path),
        help="Your private key (`strongroom keys new`), which the broker knows as an administrator's.",
    ),
)

signed_options = _options(
    click.option("--references", multiple=True, metavar="FILE", help="Signed reference values."),
    click.option("--custody", multiple=True, metavar="FILE", help="Signed custody lists."),
    click.option("--provenance", multiple=True, metavar="FILE", help="Signed SLSA provenance of images."),
    click.option("--signer-key", "signers", multiple=True, metavar="FILE", help="Public keys of who signed these."),
    click.option(
        "--enroller",
        "enrollers",
        multiple=True,
        metavar="FILE",
        help="Public keys of who enrols TPMs, and is believed.",
    ),
)

trust_options = _options(
    click.option(
        "--policy", required=True, metavar="FILE", help="Your own policy in TOML, or a signed one with --owner."
    ),
    click.option("--owner", metavar="FILE", help="Public key of who signed the policy."),
    signed_options,
    click.option("--anchor", metavar="FILE", help="PEM of an installation root, for simulated TEEs."),
    click.option("--accept-simulated", is_flag=True, help="Go on with a simulated TEE, which protects nothing."),
    click.option(
        "--broker-fingerprint", metavar="DIGEST", help="The broker that must have released the worker's keys."
    ),
)


def digest(text: str) -> Digest:
    """A digest that a person typed. Raises `UsageError`."""
    if not is_digest(text):
        raise UsageError(f"{text!r} is not a digest", remedy="Write sha256: and 64 hexadecimal digits.")
    return Digest(text)


def broker_client(url: str, fingerprint: str, identity: Path | None = None) -> BrokerClient:
    """A client that has checked the broker's identity on its first use."""
    key = private_from_pem(output.read_file(identity)) if identity is not None else None
    return BrokerClient(url, fingerprint=digest(fingerprint), identity=key)


def load_policy(path: str, owner: str | None = None) -> Policy:
    """A policy from TOML (your own), or from a signed envelope together with its owner's public key."""
    data = output.read_file(path)
    if not data.lstrip().startswith(b"{"):
        return from_toml(data.decode("utf-8", "replace"))
    if owner is None:
        raise UsageError(f"{path} is a signed policy", remedy="Say whose with --owner PUBLIC-KEY.")
    return open_policy(Envelope.from_bytes(data), [public_from_pem(output.read_file(owner))])


def load_anchors(*paths: str | None, enrollers: Iterable[str] = ()) -> tuple[TrustAnchor, ...]:
    """The vendors' roots, the installation's that are named (each for every kind of evidence), who enrols TPMs."""
    found = [*VENDOR_ANCHORS, *(read_enroller(output.read_file(path)) for path in enrollers)]
    for path in paths:
        if path is not None:
            found += read_anchors(output.read_file(path))
    return tuple(found)
