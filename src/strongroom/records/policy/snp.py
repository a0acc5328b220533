"""What a policy asks of AMD SEV-SNP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.records.policy.requirement import Requirement

PRODUCTS = ("Milan", "Genoa", "Turin")
MAX_LEVEL = 0xFF

_FIRMWARE = re.compile(r"(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})")
_ABI = re.compile(r"(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})")


@dataclass(frozen=True, slots=True)
class SnpMinimum:
    """The least that is accepted of one product: each part of each TCB version, the firmware, its mitigations.

    The parts hold for the reported, the current, the committed and the launch TCB alike. `firmware` is "major.minor.build",
    of the current and the committed firmware alike. `mitigations` are the bits that must be set in both mitigation
    vectors, which reports have from version 5 on; 0 asks for none. `fmc` is Turin's alone, 0 for the others.
    """

    fmc: int
    bootloader: int
    tee: int
    snp: int
    microcode: int
    firmware: str
    mitigations: int

    def __post_init__(self) -> None:
        parts = (self.fmc, self.bootloader, self.tee, self.snp, self.microcode)
        if not all(0 <= part <= MAX_LEVEL for part in parts) or self.mitigations < 0:
            raise ValueError(
                f"a part of a TCB version is from 0 to {MAX_LEVEL}, and mitigations are no negative number"
            )
        if _FIRMWARE.fullmatch(self.firmware) is None:
            raise ValueError('the firmware is written "major.minor.build"')

    @property
    def firmware_numbers(self) -> tuple[int, int, int]:
        """Major, minor and build."""
        major, minor, build = (int(number) for number in self.firmware.split("."))
        return major, minor, build


@dataclass(frozen=True, slots=True)
class SnpPolicy:
    """What is wanted of an SEV-SNP report; the names follow AMD's. Identifiers and digests are lower-case hexadecimal.

    `minimum` names the products that are accepted and the least of each; no other product is. From `debug` to
    `page_swap_disable` these are bits of the guest's policy, from `platform_smt` to `tio` bits of the platform's own
    information, written "0" or "1". `provisional` is "1" where the running firmware can still be rolled back (committed
    and current differ). `signing_key` is "vcek" or "vlek"; `csp_id` is "" where a VCEK signed. `guest_abi_minimum` is
    "major.minor" of the ABI that the guest's policy demands.
    """

    minimum: Mapping[str, SnpMinimum]
    debug: Requirement
    migrate_ma: Requirement
    smt: Requirement
    single_socket: Requirement
    cxl: Requirement
    mem_aes_256_xts: Requirement
    rapl_dis: Requirement
    ciphertext_hiding: Requirement
    page_swap_disable: Requirement
    platform_smt: Requirement
    tsme: Requirement
    ecc: Requirement
    platform_rapl_dis: Requirement
    platform_ciphertext_hiding: Requirement
    alias_check_complete: Requirement
    iommu_write_safe: Requirement
    tio: Requirement
    vmpl: Requirement
    provisional: Requirement
    signing_key: Requirement
    csp_id: Requirement
    family_id: Requirement
    image_id: Requirement
    id_key_digest: Requirement
    author_key_digest: Requirement
    guest_svn_minimum: int
    guest_abi_minimum: str

    def __post_init__(self) -> None:
        if not self.minimum or not self.minimum.keys() <= set(PRODUCTS):
            raise ValueError(f"minimum names at least one product, of {', '.join(PRODUCTS)}")
        if any(least.fmc for product, least in self.minimum.items() if product != "Turin"):
            raise ValueError("only Turin has an FMC")
        if _ABI.fullmatch(self.guest_abi_minimum) is None or self.guest_svn_minimum < 0:
            raise ValueError('the guest\'s ABI is written "major.minor", and its SVN is no negative number')
