"""A simulated Azure confidential VM: a paravisor's report above simulated hardware, and a vTPM whose key it vouches for.

Knows: the layout of the report (see `tee.azure`), and the JSON of its runtime claims. Does not know: the hardware (`snp`,
`chip`), the vTPM's quotes (`tpm`). The VM's unique id says `strongroom-sim`.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import rsa

from strongroom.records import codec
from strongroom.records.azure import AzureEvidence
from strongroom.records.tpm import TpmQuote
from strongroom.tee.azure import AZURE_REPORT_BYTES
from strongroom_sim.tpm import Statement, Tpm, signature

SNP, TDX = 2, 4
SHA256 = 1
HARDWARE_BYTES = 1184
TDREPORT = b"\x81".ljust(1024, b"\0")


@dataclass
class AzureVm:
    """One VM: its vTPM's registers are those of `tpm`, its AK an RSA key of the paravisor's."""

    tpm: Tpm
    ak: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def __repr__(self) -> str:
        return "AzureVm()"

    def runtime(self) -> bytes:
        """The runtime claims."""
        numbers = self.ak.public_key().public_numbers()
        key = {
            "kid": "HCLAkPub",
            "key_ops": ["sign"],
            "kty": "RSA",
            "e": _base64url(numbers.e),
            "n": _base64url(numbers.n),
        }
        configuration = {"secure-boot": True, "tpm-enabled": True, "vmUniqueId": "strongroom-sim"}
        return json.dumps({"keys": [key], "vm-configuration": configuration, "user-data": "00" * 64}).encode("ascii")

    def bound(self) -> bytes:
        """What the hardware's report data must hold (64 bytes)."""
        return hashlib.sha256(self.runtime()).digest() + bytes(32)

    def report(self, kind: int, hardware: bytes, runtime: bytes | None = None) -> bytes:
        """The paravisor's report around the hardware's own."""
        claims = self.runtime() if runtime is None else runtime
        header = struct.pack("<IIIII", 20 + len(claims), 1, kind, SHA256, len(claims))
        content = hardware.ljust(HARDWARE_BYTES, b"\0") + header + claims
        return (struct.pack("<4sIIIII8x", b"HCLA", 2, 32 + len(content), 2, 0, 0) + content).ljust(
            AZURE_REPORT_BYTES, b"\0"
        )

    def quote(self, qualifying: bytes, key: rsa.RSAPrivateKey | None = None) -> TpmQuote:
        """The vTPM's quote over all registers of the SHA-256 bank."""
        data = self.tpm.attest(Statement(qualifying), [("sha256", range(24))], "sha256")
        shown = {str(index): value.hex() for index, value in enumerate(self.tpm.pcrs["sha256"])}
        return TpmQuote(data, signature(key or self.ak, data), b"", {"sha256": shown})

    def evidence(self, sign: Callable[[bytes], bytes], qualifying: bytes) -> bytes:
        """Evidence above hardware that `sign` asks for its report or quote over 64 bytes."""
        return codec.encode(AzureEvidence(sign(self.bound()), self.runtime(), self.quote(qualifying)))


def _base64url(number: int) -> str:
    return codec.b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))
