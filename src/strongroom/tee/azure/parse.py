"""The bytes of the report at NV index 0x01400001 of an Azure confidential VM's vTPM, read totally.

    0     32    header: "HCLA", version, size of what counts, request type, status, reserved
    32    1184  the hardware's report: SEV-SNP attestation report, or a TDREPORT (1024 bytes) and zeros
    1216  20    runtime data header: size with header, version, report type (2 SNP, 4 TDX), hash (1 SHA-256), length
    1236  …     runtime claims, JSON; zeros to the end

Knows: the layout (Azure confidential VM guest attestation, vTPM report), and that the hardware signs the hash of exactly
the bytes of the claims. Does not know: whether any of it is true. Integers are little-endian. Refused, with
`MalformedEvidence`: another version, type or hash, a length that is not exact, anything but zeros behind the claims.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records import codec

AZURE_REPORT_BYTES = 2600
HARDWARE_BYTES = 1184
TDREPORT_BYTES = 1024
VERSIONS = {1, 2}
ATTESTATION = 2
SNP, TDX = 2, 4
SHA256 = 1
AK = "HCLAkPub"
MODULUS_BITS = range(2048, 4097)
EXPONENTS = range(3, 1 << 32)
"""Of an RSA key in a TPM, whose exponent has 32 bits (TPM 2.0 Library, Part 2, section 12.2.3.5)."""
CONFIGURATION = ("secure-boot", "console-enabled", "tpm-enabled", "vmUniqueId")
"""The members of the claims about the VM that are read. A closed list: whoever measures another paravisor writes what they
like here, and it must not stand under a name that the hardware or the vTPM speaks of."""
_HEADER = struct.Struct("<4sIIIII8x")
_RUNTIME = struct.Struct("<IIIII")


@dataclass(frozen=True, slots=True)
class AzureReport:
    """What counts of a report. `kind` says which hardware's report `hardware` is: `snp` (1184 bytes) or `tdx` (1024).

    A TDREPORT is no evidence outside its machine: a TD quote over the same data stands for it. `runtime` are the claims
    as they were hashed.
    """

    kind: str
    hardware: bytes
    runtime: bytes


@dataclass(frozen=True, slots=True)
class Runtime:
    """The paravisor's claims: the AK's RSA `modulus` and `exponent`, single words about the VM, and user data (hex).

    `bound` are the 64 bytes that the hardware's report data must hold: SHA-256 of the claims' text, then zeros.
    """

    bound: bytes
    modulus: int
    exponent: int
    user_data: str
    claims: dict[str, str]


def parse_report(data: bytes) -> AzureReport:
    """Read a report. Raises `MalformedEvidence`."""
    if len(data) != AZURE_REPORT_BYTES:
        raise MalformedEvidence(f"a paravisor report of {len(data)} bytes where {AZURE_REPORT_BYTES} are needed")
    magic, version, size, request, status, reserved = _HEADER.unpack_from(data)
    if magic != b"HCLA" or version not in VERSIONS or request != ATTESTATION or status or reserved:
        raise MalformedEvidence("this is not a paravisor report of a known version")
    start = _HEADER.size + HARDWARE_BYTES
    total, runtime_version, kind, algorithm, length = _RUNTIME.unpack_from(data, start)
    end = start + _RUNTIME.size + length
    if runtime_version != 1 or kind not in {SNP, TDX} or algorithm != SHA256:
        raise MalformedEvidence("the runtime data of a paravisor report is of another version, type or hash")
    if total != _RUNTIME.size + length or end > len(data) or size != end or any(data[end:]):
        raise MalformedEvidence("the lengths in a paravisor report are not exact")
    hardware = data[_HEADER.size : start]
    if kind == TDX and any(hardware[TDREPORT_BYTES:]):
        raise MalformedEvidence("something follows the TDREPORT in a paravisor report")
    name, size = ("snp", HARDWARE_BYTES) if kind == SNP else ("tdx", TDREPORT_BYTES)
    return AzureReport(name, hardware[:size], data[start + _RUNTIME.size : end])


def parse_runtime(data: bytes) -> Runtime:
    """Read the claims. Raises `MalformedEvidence`."""
    try:
        claims = codec.parse_json(data, limit=AZURE_REPORT_BYTES)
    except MalformedRecord as error:
        raise MalformedEvidence(f"the runtime claims are not JSON: {error.message}") from None
    if not isinstance(claims, dict):
        raise MalformedEvidence("the runtime claims are not an object")
    keys = [key for key in _list(claims.get("keys")) if isinstance(key, dict) and key.get("kid") == AK]
    if len(keys) != 1 or keys[0].get("kty") != "RSA":
        raise MalformedEvidence(f"the runtime claims do not hold one RSA key named {AK}")
    modulus, exponent = _number(keys[0].get("n")), _number(keys[0].get("e"))
    if modulus.bit_length() not in MODULUS_BITS or exponent not in EXPONENTS or not modulus & exponent & 1:
        raise MalformedEvidence("the AK in the runtime claims is no RSA key of a TPM, or is too weak")
    configuration = claims.get("vm-configuration")
    user_data = claims.get("user-data")
    return Runtime(
        bound=hashlib.sha256(data).digest() + bytes(32),
        modulus=modulus,
        exponent=exponent,
        user_data=user_data.lower() if isinstance(user_data, str) else "",
        claims=_words(configuration if isinstance(configuration, dict) else {}),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    """A number of a JSON Web Key (RFC 7518 section 6.3.1): base64url, big-endian."""
    if not isinstance(value, str):
        raise MalformedEvidence("a number of the AK in the runtime claims is missing")
    try:
        return int.from_bytes(base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True), "big")
    except (ValueError, binascii.Error):
        raise MalformedEvidence("a number of the AK in the runtime claims is not base64url") from None


def _words(configuration: dict[str, Any]) -> dict[str, str]:
    """Known plain members as words; `true` and `false` as 1 and 0, so that policies write bits everywhere alike."""
    found = {name: configuration.get(name) for name in CONFIGURATION}
    return {
        name.replace("-", "_"): str(int(value)) if isinstance(value, bool) else value
        for name, value in found.items()
        if isinstance(value, str | bool)
    }
