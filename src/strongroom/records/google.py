"""Evidence of a confidential VM of Google: the hardware's report and the vTPM's quote, each bound to the other.

Knows: the shape, and what the hardware's report data must be. Does not know: what is in the parts (`tee.tdx`, `tee.snp`,
`tee.tpm`), or whether it is true.

Google's vTPM runs outside the machine that it serves, so nothing measured vouches for it: Google does, by the certificate of
its key (AK). What ties the two together is the guest: what runs in it asks both, and lets the hardware sign which AK and which
quote it means. Without that, a report of one machine could be shown beside a quote of another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records import codec
from strongroom.records.digest import frame
from strongroom.records.tpm import TpmQuote

TAG = "strongroom/vtpm-binding/v1"


@dataclass(frozen=True, slots=True)
class GoogleEvidence:
    """`hardware` is the SEV-SNP report or the TD quote over `hardware_data`; `tpm` is the vTPM's quote.

    `certificate` is that of the AK (DER) as the vTPM keeps it, empty where it travels with the collateral.
    """

    TYPE: ClassVar[str] = "strongroom/google-evidence/v1"
    hardware: bytes
    certificate: bytes
    tpm: TpmQuote


def hardware_data(ak_name: str, qualifying: bytes) -> bytes:
    """The 64 bytes that the hardware signs: SHA-512 of the tag framed with {ak_name, qualifying_data}.

    `ak_name` is the AK's name as verdicts have it, `qualifying` what the vTPM's quote binds; so the hardware binds that too.
    """
    members = {"ak_name": ak_name, "qualifying_data": qualifying}
    return hashlib.sha512(frame(TAG, codec.encode(members))).digest()
