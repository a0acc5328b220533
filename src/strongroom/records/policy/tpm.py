"""What a policy asks of a TPM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.records.policy.requirement import Requirement

_VERSION = re.compile(r"[0-9a-f]{16}")
_REGISTER = re.compile(r"pcr(?:[0-9]|1[0-9]|2[0-3])")


@dataclass(frozen=True, slots=True)
class TpmPolicy:
    """What is wanted of a TPM's quote.

    `measured` is "0" where the firmware's registers are as at power-on: whoever boots then writes them as they like.
    `bank` is that of the registers claimed (sha256, sha384, sha512). `pcrs` pins registers beyond those that every
    reference value pins: `pcr11` -> values in lower-case hexadecimal; each must be in the quote. `source` says who may
    vouch for the attestation key: certificate, enrolment, or the verifier of the TEE beneath. `ak_names` are names of
    attestation keys, `endorsements` fingerprints (`sha256:…`) of the certificates that they rest on: which machines.
    `firmware_minimum` is the least firmware version as the TPM tells it, 16 digits in hexadecimal; versions of one maker
    compare. `clock_safe` is "0" or "1": whether the clock cannot have gone back. `secure_boot` is "0" or "1" as the
    event log, replayed to the registers, tells it.
    """

    measured: Requirement
    bank: Requirement
    pcrs: Mapping[str, Requirement]
    source: Requirement
    ak_names: Requirement
    endorsements: Requirement
    firmware_minimum: str
    clock_safe: Requirement
    secure_boot: Requirement

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.firmware_minimum):
            raise ValueError("a firmware version is 16 digits in lower-case hexadecimal")
        for name in self.pcrs:
            if not _REGISTER.fullmatch(name):
                raise ValueError(f"{name[:16]!r} is no register; pcr0 to pcr23 are")
