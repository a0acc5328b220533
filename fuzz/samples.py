"""Valid bytes of each kind, made by the product and its simulator, for fuzzing to start from."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from strongroom.appraisal.policies import sign_policy, template, to_toml
from strongroom.crypto.signatures import generate_ed25519, generate_p256, generate_p384, raw_public
from strongroom.records.artifact import ArtifactKind, KeyWrap, RecipientKey, SealHeader
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Evidence, EvidenceBundle, IntelCollateral, events_of
from strongroom.records.policy import Policy
from strongroom.records.worker import Keyset, Statement
from strongroom.sealed.manifest import LAYER_TYPE, Manifest
from strongroom.sealed.registries.port import Descriptor
from strongroom_sim import Chip, Installation, mrtd_for, reference_for

NOW = 1_790_000_000
IMAGE = digest_bytes(b"image")
ED25519, P256, P384 = generate_ed25519(), generate_p256(), generate_p384()


@functools.cache
def installation() -> Installation:
    """A simulated vendor, whose files are no longer needed."""
    with tempfile.TemporaryDirectory() as folder:
        made = Installation.create(Path(folder) / "installation", now=NOW)
        _ = made.pck_chain, made.root_pem
        return made


@functools.cache
def collateral() -> IntelCollateral:
    """What the installation signs about its platform."""
    return installation().collateral(NOW)


def bundle() -> EvidenceBundle:
    """Evidence with collateral."""
    chip = Chip(installation(), mrtd=mrtd_for(IMAGE))
    keyset = Keyset(bytes(32), bytes(1216), raw_public(ED25519), None, ("ehbp/1",), NOW + 1)
    statement = Statement("inference", IMAGE, None, (IMAGE,), IMAGE)
    evidence = Evidence(
        "tdx", chip.quote(bytes(64)), b"", events_of(statement), bytes(32), "session", keyset, statement
    )
    return EvidenceBundle(evidence, installation().bundle(NOW))


def policy() -> Policy:
    """A policy for the image above."""
    return template("policy", references=[reference_for(IMAGE)], artifacts=[IMAGE], simulated=True)


def envelope() -> bytes:
    """That policy, signed."""
    return sign_policy(policy(), ED25519).to_bytes()


def manifest() -> bytes:
    """The manifest of a sealed artifact."""
    keys = KeyWrap(None, (RecipientKey(IMAGE, bytes(1120), bytes(48)),))
    layers = tuple(Descriptor(LAYER_TYPE, digest_bytes(bytes([n])), 1000 + n) for n in range(3))
    return Manifest(SealHeader(bytes(16), bytes(16), 1, ArtifactKind.MODEL, 1 << 20, keys), layers).to_bytes()


__all__ = [
    "ED25519",
    "IMAGE",
    "NOW",
    "P256",
    "P384",
    "bundle",
    "envelope",
    "installation",
    "manifest",
    "policy",
    "to_toml",
]
