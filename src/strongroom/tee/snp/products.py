"""AMD's products that make SEV-SNP reports: how each is known, and how it lays out a TCB version.

Knows: Milan, Genoa (with Bergamo and Siena, which share its keys) and Turin; CPUID families and models (AMD's Processor
Programming References), names in certificates (Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface
Specification, publication 57230), TCB_VERSION (SEV-SNP Firmware ABI, publication 56860). Does not know: minimum
versions; those are a policy's. A product that is not here is unknown, and unknown is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MILAN, GENOA, TURIN = "Milan", "Genoa", "Turin"
PRODUCTS = (MILAN, GENOA, TURIN)

PARTS = ("fmc", "bootloader", "tee", "snp", "microcode")
"""The parts of a TCB version that have a name; Milan and Genoa have no FMC."""

_LEGACY: Mapping[str, int] = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_WITH_FMC: Mapping[str, int] = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
LAYOUTS: Mapping[str, Mapping[str, int]] = {MILAN: _LEGACY, GENOA: _LEGACY, TURIN: _WITH_FMC}
"""Product -> part -> its byte in a TCB version."""

_LEGACY_SPLS = (1, 2, 4, 5, 6, 7, 3, 8)
SPLS: Mapping[str, tuple[int, ...]] = {MILAN: _LEGACY_SPLS, GENOA: _LEGACY_SPLS, TURIN: (9, 1, 2, 3, 5, 6, 7, 8)}
"""Product -> for each byte of a TCB version, the last arc of the certificate extension that holds its patch level."""

HWID_BYTES: Mapping[str, int] = {MILAN: 64, GENOA: 64, TURIN: 8}
"""Product -> how many bytes of CHIP_ID its certificates name; the rest of CHIP_ID is zero."""

_CERTIFIED = re.compile(r"([A-Z][a-z]+)(?:-[A-Z][0-9])?")


def of_cpuid(family: int, model: int) -> str | None:
    """The product with this CPUID family and model (both extended), or None."""
    for product, of_family, first, last in (
        (MILAN, 0x19, 0x00, 0x0F),
        (GENOA, 0x19, 0x10, 0x1F),
        (GENOA, 0x19, 0xA0, 0xAF),  # Bergamo and Siena
        (TURIN, 0x1A, 0x00, 0x1F),
    ):
        if family == of_family and first <= model <= last:
            return product
    return None


def of_name(name: str, prefix: str = "") -> str | None:
    """The product that a name stands for: a certificate's own (`Milan-B0`), or an issuer's behind its `prefix`."""
    if not name.startswith(prefix):
        return None
    found = _CERTIFIED.fullmatch(name[len(prefix) :])
    return found[1] if found is not None and found[1] in PRODUCTS else None


def parts(product: str, tcb: bytes) -> dict[str, int]:
    """The named parts of a TCB version (8 bytes)."""
    return {part: tcb[index] for part, index in LAYOUTS[product].items()}
