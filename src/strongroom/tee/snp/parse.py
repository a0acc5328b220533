"""The bytes of an SEV-SNP attestation report, versions 2, 3 and 5, read totally.

Knows: where each field stands (SEV Secure Nested Paging Firmware ABI, publication 56860, ATTESTATION_REPORT); all integers
are little-endian. Does not know: whether any of it is true (`verify`), what a TCB version is made of (`products`).
Refused, with `MalformedEvidence`: another size or version, and padding of the signature that is not zero: nobody signs
it, so it would be a second spelling of one report. Reserved fields inside the signed part are kept and judged by a
check. Not covered: reports of version 4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from strongroom.errors import MalformedEvidence

REPORT_BYTES = 1184
SIGNED_BYTES = 672
VERSIONS = (2, 3, 5)
WITH_CPUID = 3
WITH_MITIGATIONS = 5
SCALAR_BYTES = 48
CHIP_ID_BYTES = 64

VCEK, VLEK, NO_KEY = 0, 1, 7
"""SIGNING_KEY: which key signed the report; 2 to 6 are reserved."""

# VERSION, GUEST_SVN, POLICY, FAMILY_ID, IMAGE_ID, VMPL, SIGNATURE_ALGO, CURRENT_TCB, PLATFORM_INFO, signer information,
# reserved, REPORT_DATA, MEASUREMENT, HOST_DATA, ID_KEY_DIGEST, AUTHOR_KEY_DIGEST, REPORT_ID, REPORT_ID_MA, REPORTED_TCB,
# CPUID (3) and reserved, CHIP_ID, COMMITTED_TCB, build, minor and major of the current and the committed firmware,
# LAUNCH_TCB, LAUNCH_MIT_VECTOR, CURRENT_MIT_VECTOR, reserved; then the signature: r, s, reserved.
_LAYOUT = struct.Struct("<IIQ16s16sII8sQI4s64s48s32s48s48s32s32s8s3s21s64s8s3ss3ss8sQQ152s72s72s368s")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the firmware, in the order in which it is compared."""

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"

    def reaches(self, other: tuple[int, int, int]) -> bool:
        """Whether this is `other` or newer."""
        return (self.major, self.minor, self.build) >= other


@dataclass(frozen=True, slots=True)
class Report:
    """A parsed report. Names follow AMD's; TCB versions are the 8 bytes as they stand.

    `cpuid` is family, model and stepping, from version 3 on; the mitigation vectors are there from version 5 on.
    `reserved` holds all bytes that must be zero, joined; `signed` is what the chip signed, `r` and `s` its signature.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algorithm: int
    current_tcb: bytes
    platform_info: int
    signer_info: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpuid: tuple[int, int, int] | None
    chip_id: bytes
    committed_tcb: bytes
    current_version: Version
    committed_version: Version
    launch_tcb: bytes
    launch_mitigations: int | None
    current_mitigations: int | None
    reserved: bytes
    signed: bytes
    r: int
    s: int

    @property
    def signing_key(self) -> int:
        """SIGNING_KEY, bits 2 to 4 of the signer information."""
        return self.signer_info >> 2 & 0b111

    @property
    def mask_chip_key(self) -> bool:
        """MASK_CHIP_KEY: the host keeps the chip's own key (VCEK) from signing."""
        return bool(self.signer_info >> 1 & 1)


def parse_report(data: bytes) -> Report:
    """Read a report of version 2, 3 or 5, nothing after it. Raises `MalformedEvidence`."""
    if len(data) != REPORT_BYTES:
        raise MalformedEvidence(f"a report of {len(data)} bytes; SEV-SNP reports have {REPORT_BYTES}")
    (
        version, guest_svn, policy, family_id, image_id, vmpl, algorithm, current_tcb, platform_info, signer_info,
        reserved_1, report_data, measurement, host_data, id_key, author_key, report_id, report_id_ma, reported_tcb,
        cpuid, reserved_2, chip_id, committed_tcb, current, reserved_3, committed, reserved_4, launch_tcb,
        launch_mitigations, current_mitigations, reserved_5, r, s, reserved_6,
    ) = _LAYOUT.unpack(data)  # fmt: skip
    if version not in VERSIONS:
        raise MalformedEvidence(f"a report of version {version}; 2, 3 and 5 are known")
    if any(r[SCALAR_BYTES:]) or any(s[SCALAR_BYTES:]) or any(reserved_6):
        raise MalformedEvidence("the report's signature is padded with something other than zeros")
    reserved = reserved_1 + reserved_2 + reserved_3 + reserved_4 + reserved_5
    if version < WITH_CPUID:
        reserved += cpuid
    if version < WITH_MITIGATIONS:
        reserved += struct.pack("<QQ", launch_mitigations, current_mitigations)
    return Report(
        version=version,
        guest_svn=guest_svn,
        policy=policy,
        family_id=family_id,
        image_id=image_id,
        vmpl=vmpl,
        signature_algorithm=algorithm,
        current_tcb=current_tcb,
        platform_info=platform_info,
        signer_info=signer_info,
        report_data=report_data,
        measurement=measurement,
        host_data=host_data,
        id_key_digest=id_key,
        author_key_digest=author_key,
        report_id=report_id,
        report_id_ma=report_id_ma,
        reported_tcb=reported_tcb,
        cpuid=(cpuid[0], cpuid[1], cpuid[2]) if version >= WITH_CPUID else None,
        chip_id=chip_id,
        committed_tcb=committed_tcb,
        current_version=_version(current),
        committed_version=_version(committed),
        launch_tcb=launch_tcb,
        launch_mitigations=launch_mitigations if version >= WITH_MITIGATIONS else None,
        current_mitigations=current_mitigations if version >= WITH_MITIGATIONS else None,
        reserved=reserved,
        signed=data[:SIGNED_BYTES],
        r=int.from_bytes(r[:SCALAR_BYTES], "little"),
        s=int.from_bytes(s[:SCALAR_BYTES], "little"),
    )


def _version(raw: bytes) -> Version:
    build, minor, major = raw
    return Version(major, minor, build)
