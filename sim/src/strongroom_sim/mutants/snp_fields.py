"""The fields of an SEV-SNP report, and what each makes a verdict say.

Knows: where each stands (SEV-SNP Firmware ABI, publication 56860, ATTESTATION_REPORT), bits of policy and platform, the parts
of a TCB version. Does not know: keys.
"""

from __future__ import annotations

from collections.abc import Callable

from strongroom_sim.mutants.mutant import UNCHANGED, Field, Said, layout, number, refused, shown, unsaid

GUEST, CHIP_MODEL = "snp.guest", "snp.model"
POLICY_BITS = {
    "smt": 16, "migrate_ma": 18, "debug": 19, "single_socket": 20, "cxl": 21, "mem_aes_256_xts": 22, "rapl_dis": 23,
    "ciphertext_hiding": 24, "page_swap_disable": 25,
}  # fmt: skip
PLATFORM_BITS = (
    "platform_smt", "tsme", "ecc", "platform_rapl_dis", "platform_ciphertext_hiding", "alias_check_complete",
    "iommu_write_safe", "tio",
)  # fmt: skip
PARTS = {
    "Milan": {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "Genoa": {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "Turin": {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7},
}
MODELS = {
    "Milan": ((0x19, 0x00, 0x0F),),
    "Genoa": ((0x19, 0x10, 0x1F), (0x19, 0xA0, 0xAF)),
    "Turin": ((0x1A, 0, 0x1F),),
}


def fields_of(product: str, version: int, signed: bytes) -> tuple[Field, ...]:
    """The fields of the signed part, with what each makes a verdict say beside the good report `signed`."""
    current, committed, reported = signed[56:64], signed[480:488], signed[384:392]
    firmware, firm = signed[488:491], signed[492:495]

    def provisional(tcb: bytes, least: bytes, now: bytes, then: bytes) -> Said:
        return {"provisional": int(tcb != least or now != then)}

    def current_tcb(value: bytes) -> Said | None:
        if not (_reaches(value, committed) and _reaches(value, reported)):
            return None
        return {**_tcb(product, "current", value), **provisional(value, committed, firmware, firm)}

    def committed_tcb(value: bytes) -> Said | None:
        if not _reaches(current, value):
            return None
        return {**_tcb(product, "committed", value), **provisional(current, value, firmware, firm)}

    def current_version(value: bytes) -> Said:
        return {"firmware_current": _version(value), **provisional(current, committed, value, firm)}

    def committed_version(value: bytes) -> Said:
        return {"firmware_committed": _version(value), **provisional(current, committed, firmware, value)}

    newest = version == 5  # noqa: PLR2004
    return layout(
        (
            ("version", 4, refused, ""),
            ("guest_svn", 4, number("guest_svn"), ""),
            ("policy", 8, _policy, ""),
            ("family_id", 16, shown("family_id"), ""),
            ("image_id", 16, shown("image_id"), ""),
            ("vmpl", 4, lambda v: {"vmpl": v[0]} if int.from_bytes(v, "little") < 4 else None, ""),  # noqa: PLR2004
            ("signature_algorithm", 4, refused, ""),
            ("current_tcb", 8, current_tcb, ""),
            ("platform_info", 8, _platform, ""),
            ("signer_info", 4, _signer(signed), CHIP_MODEL),
            ("reserved.1", 4, refused, ""),
            ("report_data", 64, shown("report_data"), ""),
            ("measurement", 48, shown("measurement"), ""),
            ("host_data", 32, shown("host_data"), ""),
            ("id_key_digest", 48, shown("id_key_digest"), ""),
            ("author_key_digest", 48, shown("author_key_digest"), ""),
            ("report_id", 32, unsaid, GUEST),
            ("report_id_ma", 32, unsaid, GUEST),
            ("reported_tcb", 8, refused, ""),
            ("cpuid", 3, refused if version < 3 else _cpuid(product), CHIP_MODEL),  # noqa: PLR2004
            ("reserved.2", 21, refused, ""),
            ("chip_id", 64, _chip_id(signed), ""),
            ("committed_tcb", 8, committed_tcb, ""),
            ("current_version", 3, current_version, ""),
            ("reserved.3", 1, refused, ""),
            ("committed_version", 3, committed_version, ""),
            ("reserved.4", 1, refused, ""),
            ("launch_tcb", 8, lambda value: _tcb(product, "launch", value), ""),
            ("launch_mitigations", 8, _vector("mitigations_launch") if newest else refused, ""),
            ("current_mitigations", 8, _vector("mitigations_current") if newest else refused, ""),
            ("reserved.5", 152, refused, ""),
        )
    )


def _reaches(tcb: bytes, other_tcb: bytes) -> bool:
    return all(own >= least for own, least in zip(tcb, other_tcb, strict=True))


def _tcb(product: str, name: str, value: bytes) -> Said:
    return {
        f"tcb_{name}": value.hex(),
        **{f"tcb_{name}_{part}": value[place] for part, place in PARTS[product].items()},
    }


def _version(value: bytes) -> str:
    build, minor, major = value
    return f"{major}.{minor}.{build}"


def _vector(name: str) -> Callable[[bytes], Said]:
    return lambda value: {name: value[::-1].hex()}


def _policy(value: bytes) -> Said | None:
    bits = int.from_bytes(value, "little")
    known = 0xFFFF | 1 << 17 | sum(1 << bit for bit in POLICY_BITS.values())
    if bits & ~known or not bits >> 17 & 1:
        return None
    told = {name: bits >> bit & 1 for name, bit in POLICY_BITS.items()}
    return {"guest_policy": value.hex(), "guest_abi": f"{value[1]}.{value[0]}", **told}


def _platform(value: bytes) -> Said | None:
    if any(value[1:]):
        return None
    return {"platform_info": value.hex(), **{name: value[0] >> bit & 1 for bit, name in enumerate(PLATFORM_BITS)}}


def _signer(signed: bytes) -> Callable[[bytes], Said | None]:
    """AUTHOR_KEY_EN (bit 0) says nothing more than the author key's digest; MASK_CHIP_KEY (bit 1) forbids a VCEK."""
    key = signed[72] >> 2

    def says(value: bytes) -> Said | None:
        if any(value[1:]) or value[0] >> 2 != key:
            return None
        return UNCHANGED if key == 1 or not value[0] >> 1 & 1 else None

    return says


def _cpuid(product: str) -> Callable[[bytes], Said | None]:
    """Another model of the same product, another stepping: the chip is named by its id and its certificate."""
    return lambda value: UNCHANGED if any(value[0] == f and a <= value[1] <= b for f, a, b in MODELS[product]) else None


def _chip_id(signed: bytes) -> Callable[[bytes], Said | None]:
    """A VLEK names no chip, so there the report may name any."""
    return (lambda value: {"chip_id": value.hex() if any(value) else ""}) if signed[72] >> 2 == 1 else refused
