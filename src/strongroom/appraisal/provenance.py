"""How an image was built, as its build platform signs it: SLSA provenance, and what a policy asks of it.

Specification: SLSA provenance v1 (predicate `https://slsa.dev/provenance/v1`), in-toto attestation Statement v1, DSSE v1.0.2.
Members that this does not name are passed over, as SLSA wants it.

Knows: whose provenance is about which images, and which builder it names. Does not know: registers (`statement`): where an
image came from never replaces what it measures. Not covered: what a build was made from (parameters and dependencies mean
something else for each build type), sigstore's own certificates and logs, the predicate before v1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strongroom.crypto.signatures import PublicKey, fingerprint, open_envelope
from strongroom.errors import MalformedRecord
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.policy import ProvenancePolicy
from strongroom.records.verdict import Check, judged, not_run, passed

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
MAX_SUBJECTS = 4096
MAX_BUILDER = 2048

_CHECK = "policy.provenance"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Provenance:
    """One build: the digests of what came of it (those that are SHA-256), and the id of the platform that made it."""

    images: frozenset[Digest]
    builder: str


def open_provenance(envelope: Envelope, key: PublicKey) -> tuple[Digest, Provenance]:
    """Provenance that `key` signed. Raises `SignatureInvalid` or `MalformedRecord`."""
    return fingerprint(key), parse_provenance(open_envelope(envelope, PAYLOAD_TYPE, [key]))


def parse_provenance(payload: bytes) -> Provenance:
    """What a statement says; nobody's word until `open_provenance` knows whose. Raises `MalformedRecord`."""
    statement = codec.parse_json(payload, read_float=str)  # parameters of a build may be fractions; they are not read
    try:
        if (statement["_type"], statement["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise MalformedRecord("this is not a statement of SLSA provenance v1")
        images = frozenset(Digest(f"sha256:{found}") for found in _digests(statement["subject"]))
        builder = statement["predicate"]["runDetails"]["builder"]["id"]
    except (KeyError, TypeError, AttributeError):
        raise MalformedRecord("this statement of provenance lacks a member, or has one of another kind") from None
    if not isinstance(builder, str) or not 1 <= len(builder) <= MAX_BUILDER or not builder.isprintable():
        raise MalformedRecord("this statement of provenance names no builder")
    return Provenance(images, builder)


def check_provenance(image: Digest, given: Sequence[tuple[Digest, Provenance]], wanted: ProvenancePolicy) -> Check:
    """Whether somebody whom the policy names says that a builder it names made `image`.

    Provenance that nobody gave is not-run; what a key signed that the policy does not name counts as not given.
    """
    if wanted.signers.any is not None:
        if wanted.builders.any is None:
            return not_run(_CHECK, "without a signer whose word counts, a builder's name is nobody's word")
        return passed(_CHECK, wanted.signers.any)
    counting = [found for signer, found in given if wanted.signers.admits(signer)]
    if not counting:
        return not_run(_CHECK, "no provenance was given that is signed by a key which the policy names")
    builders = [found.builder for found in counting if image in found.images]
    if not builders:
        return judged(_CHECK, False, f"no provenance of image {image}")
    admitted = [builder for builder in builders if wanted.builders.admits(builder)]
    return judged(_CHECK, bool(admitted), (admitted or builders)[0][:256])


def _digests(subjects: Any) -> list[str]:
    if not isinstance(subjects, list) or not 1 <= len(subjects) <= MAX_SUBJECTS:
        raise MalformedRecord(f"a statement of provenance has 1 to {MAX_SUBJECTS} subjects")
    found = [subject["digest"].get("sha256") for subject in subjects]
    digests = [digest for digest in found if digest is not None]
    if not all(isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in digests):
        raise MalformedRecord("a statement of provenance has a subject whose digest is none")
    return digests
