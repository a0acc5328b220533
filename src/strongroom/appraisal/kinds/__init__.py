"""The kinds of evidence that can be appraised, each in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.appraisal.kinds.azure import AZURE_SNP, AZURE_TDX
from strongroom.appraisal.kinds.cca import CCA
from strongroom.appraisal.kinds.google import GOOGLE_SNP, GOOGLE_TDX
from strongroom.appraisal.kinds.kind import Kind
from strongroom.appraisal.kinds.nitro import NITRO
from strongroom.appraisal.kinds.sgx import SGX
from strongroom.appraisal.kinds.snp import SNP
from strongroom.appraisal.kinds.tdx import TDX
from strongroom.appraisal.kinds.tpm import TPM
from strongroom.errors import MalformedEvidence

__all__ = ["KINDS", "Kind", "kind_of"]

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (TDX, SGX, SNP, TPM, NITRO, CCA, AZURE_SNP, AZURE_TDX, GOOGLE_SNP, GOOGLE_TDX)
}


def kind_of(name: str) -> Kind:
    """The kind by its name. Raises `MalformedEvidence` where there is no verifier for it."""
    found = KINDS.get(name)
    if found is None:
        raise MalformedEvidence(f"there is no verifier for evidence of kind {name[:32]!r}")
    return found
