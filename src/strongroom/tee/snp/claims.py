"""What a report claims, by the names that policies use.

Knows: bits of GUEST_POLICY and PLATFORM_INFO (SEV-SNP Firmware ABI, publication 56860). Does not know: whether the report
holds (`verify`), or what anyone wants (`appraisal`). Bits are 0 or 1, identifiers and digests lower-case hexadecimal.
Not covered: REPORT_ID and REPORT_ID_MA, which name one guest for as long as it lives and say nothing about it.
"""

from __future__ import annotations

from strongroom.tee.snp import products
from strongroom.tee.snp.parse import Report

POLICY_BITS = {
    "smt": 16,
    "migrate_ma": 18,
    "debug": 19,
    "single_socket": 20,
    "cxl": 21,
    "mem_aes_256_xts": 22,
    "rapl_dis": 23,
    "ciphertext_hiding": 24,
    "page_swap_disable": 25,
}
"""What the guest's policy allows or demands. Bit 17 is always one; bits 0 to 15 are the ABI version it demands."""
POLICY_ONE = 1 << 17
POLICY_KNOWN = 0xFFFF | POLICY_ONE | sum(1 << bit for bit in POLICY_BITS.values())

PLATFORM_BITS = {
    "platform_smt": 0,
    "tsme": 1,
    "ecc": 2,
    "platform_rapl_dis": 3,
    "platform_ciphertext_hiding": 4,
    "alias_check_complete": 5,
    "iommu_write_safe": 6,
    "tio": 7,
}
"""How the platform is set up."""
PLATFORM_KNOWN = sum(1 << bit for bit in PLATFORM_BITS.values())

SIGNER_KNOWN = 0b11111

TCBS = ("reported", "current", "committed", "launch")


def of_report(report: Report, product: str | None) -> dict[str, str | int]:
    """All claims of `report`; the parts of its TCB versions only if the `product` that lays them out is known."""
    claims: dict[str, str | int] = {
        "report_version": report.version,
        "report_data": report.report_data.hex(),
        "measurement": report.measurement.hex(),
        "host_data": report.host_data.hex(),
        "family_id": report.family_id.hex(),
        "image_id": report.image_id.hex(),
        "id_key_digest": report.id_key_digest.hex(),
        "author_key_digest": report.author_key_digest.hex(),
        "guest_svn": report.guest_svn,
        "vmpl": report.vmpl,
        "guest_policy": report.policy.to_bytes(8, "little").hex(),
        "platform_info": report.platform_info.to_bytes(8, "little").hex(),
        "guest_abi": f"{report.policy >> 8 & 0xFF}.{report.policy & 0xFF}",
        "firmware_current": str(report.current_version),
        "firmware_committed": str(report.committed_version),
        "provisional": int(
            report.committed_tcb != report.current_tcb or report.committed_version != report.current_version
        ),
    }
    claims.update((name, report.policy >> bit & 1) for name, bit in POLICY_BITS.items())
    claims.update((name, report.platform_info >> bit & 1) for name, bit in PLATFORM_BITS.items())
    if report.launch_mitigations is not None and report.current_mitigations is not None:
        claims["mitigations_launch"] = f"{report.launch_mitigations:016x}"
        claims["mitigations_current"] = f"{report.current_mitigations:016x}"
    for name, tcb in zip(TCBS, tcbs(report), strict=True):
        claims[f"tcb_{name}"] = tcb.hex()
        if product is not None:
            claims.update((f"tcb_{name}_{part}", level) for part, level in products.parts(product, tcb).items())
    if product is not None:
        claims["product"] = product
    return claims


def tcbs(report: Report) -> tuple[bytes, bytes, bytes, bytes]:
    """The four TCB versions in the order of `TCBS`."""
    return report.reported_tcb, report.current_tcb, report.committed_tcb, report.launch_tcb
