"""Evidence of an Azure confidential VM: three things of which each vouches for the next, as they travel together.

Knows: the shape. Does not know: what is in it (`tee.azure`, `tee.tpm`), or whether it is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.tpm import TpmQuote


@dataclass(frozen=True, slots=True)
class AzureEvidence:
    """`hardware` is the SEV-SNP report or the TD quote, `runtime` the paravisor's claims whose hash it signs.

    `tpm` is the vTPM's quote; its `ak` may be empty, because the key stands in the runtime claims. What else is in the
    paravisor's report vouches for nothing, and is left where it is.
    """

    TYPE: ClassVar[str] = "strongroom/azure-evidence/v1"
    hardware: bytes
    runtime: bytes
    tpm: TpmQuote
