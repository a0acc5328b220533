"""The policy: what its owner wants of a place. Data, typed, versioned, signed; no member has a silent default.

Knows: the members; what a requirement is stands in `requirement`, what is asked of each kind of evidence in a file of its
own. Does not know: how a policy is judged (`appraisal`), written (`cli`) or signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest, digest_record
from strongroom.records.policy.cca import CcaPolicy
from strongroom.records.policy.nitro import NitroPolicy
from strongroom.records.policy.requirement import Requirement
from strongroom.records.policy.sgx import SgxPolicy
from strongroom.records.policy.snp import SnpMinimum, SnpPolicy
from strongroom.records.policy.tdx import TdxPolicy
from strongroom.records.policy.tpm import TpmPolicy
from strongroom.records.policy.witnesses import WitnessPolicy
from strongroom.records.reference import Reference
from strongroom.records.verdict import Level

__all__ = [
    "KINDS",
    "CcaPolicy",
    "CustodyPolicy",
    "NitroPolicy",
    "Policy",
    "ProvenancePolicy",
    "Reference",
    "Requirement",
    "SgxPolicy",
    "Signer",
    "SnpMinimum",
    "SnpPolicy",
    "TdxPolicy",
    "TpmPolicy",
    "WitnessPolicy",
]

_LINE = re.compile(r"[0-9a-f]{32}")
KINDS = ("tdx", "sgx", "snp", "tpm", "nitro", "cca")
"""The members of a policy that are about one kind of evidence each."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose signed word counts: the fingerprint of a key, and the least version of what it signs."""

    key: Digest
    minimum: int


@dataclass(frozen=True, slots=True)
class CustodyPolicy:
    """Whose machine it must be.

    `custodians` are the fingerprints of the keys whose lists count; a machine must be allowed by one of them. Where a
    requirement on `sites` or `jurisdictions` is a list, the entry that allows the machine must meet it. An entry that
    denies a machine counts in every list that is given, whatever else is admitted.
    """

    custodians: Requirement
    minimum: int
    sites: Requirement
    jurisdictions: Requirement


@dataclass(frozen=True, slots=True)
class ProvenancePolicy:
    """Who must have built the image that runs, by SLSA provenance.

    `signers` are the fingerprints of the keys whose provenance counts, any with a reason where nobody is asked; `builders`
    the ids of the build platforms that may stand in it.
    """

    signers: Requirement
    builders: Requirement


@dataclass(frozen=True, slots=True)
class Policy:
    """One owner's policy. `version` never goes back. `levels` names what is accepted, `simulated` only by name.

    `witnesses` are who must have signed the broker's log before a key leaves.
    `revocation` is `["checked"]`, or any with the reason why a revocation list that was not given may be missing.
    `references` stand in the policy itself; `builders` are whose signed reference values count besides.
    `editions` are lines of artifacts (hexadecimal), each with the least edition whose key is released; a line that is not
    named has no floor. Of each kind of evidence the policy either says all that is wanted, or None: such evidence is then refused.
    """

    TYPE: ClassVar[str] = "strongroom/policy/v1"
    id: str
    version: int
    levels: tuple[Level, ...]
    references: tuple[Reference, ...]
    builders: tuple[Signer, ...]
    custody: CustodyPolicy
    provenance: ProvenancePolicy
    witnesses: WitnessPolicy
    revocation: Requirement
    workload: Requirement
    artifacts: Requirement
    editions: Mapping[str, int]
    configuration: Requirement
    launch_spec: Requirement
    lease_seconds: int
    tdx: TdxPolicy | None
    sgx: SgxPolicy | None
    snp: SnpPolicy | None
    tpm: TpmPolicy | None
    nitro: NitroPolicy | None
    cca: CcaPolicy | None

    def __post_init__(self) -> None:
        if not self.levels or Level.NONE in self.levels:
            raise ValueError("levels must name at least one level, and never none")
        if not self.references and not self.builders:
            raise ValueError("a policy without reference values, and without a builder of them, accepts nothing")
        if all(getattr(self, kind) is None for kind in KINDS):
            raise ValueError("a policy without a kind of evidence accepts nothing")
        if not all(_LINE.fullmatch(line) and least >= 1 for line, least in self.editions.items()):
            raise ValueError("editions name lines of artifacts by 32 hexadecimal digits, and editions from 1")
        if self.revocation.any is None and self.revocation.one_of != ("checked",):
            raise ValueError('revocation is ["checked"], or any with a reason')
        if self.version < 1 or not 1 <= self.lease_seconds <= 86_400:  # noqa: PLR2004 (one day)
            raise ValueError("version starts at 1, and a lease lasts from a second to a day")

    @property
    def digest(self) -> Digest:
        return digest_record(self)
