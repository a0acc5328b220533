"""A simulated confidential VM of Google: simulated hardware, and a vTPM whose key a certificate of its own maker vouches for.

Knows: the certificate's extension about the machine (see `tee.tpm.instance`), and the order in which a guest asks both
devices. Does not know: the hardware (`snp`, `chip`), quotes (`tpm`). The machine's names say `strongroom-sim`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.records import codec
from strongroom.records.evidence import TpmCollateral
from strongroom.records.google import GoogleEvidence, hardware_data
from strongroom.records.tpm import TpmQuote
from strongroom.tee.tpm import parse_key
from strongroom.tee.tpm.commands import AK_ECC
from strongroom.tee.tpm.instance import INSTANCE
from strongroom_sim.tpm import Tpm

CERTIFICATE, TEMPLATE = 0x01C10002, 0x01C10003
"""Where the vTPM keeps the certificate of its elliptic AK, and the template of that key."""


@dataclass
class GoogleVm:
    """One VM, whose vTPM is `tpm`; `now` is when its AK was certified (Unix seconds)."""

    tpm: Tpm
    now: int

    def __post_init__(self) -> None:
        self.leaf = self.tpm.maker.certify_ak(
            self.tpm.ak.public_key(), self.now, purpose=None, extra=(INSTANCE, instance())
        )
        self.tpm.nv |= {CERTIFICATE: self.certificate, TEMPLATE: AK_ECC}

    def __repr__(self) -> str:
        return "GoogleVm()"

    @property
    def certificate(self) -> bytes:
        """The AK's certificate, DER."""
        return self.leaf.public_bytes(Encoding.DER)

    @property
    def ak_name(self) -> str:
        """The AK's name, as verdicts have it."""
        return parse_key(self.tpm.ak_public).name

    def collateral(self, now: int) -> TpmCollateral:
        """The certificate with what stands above it."""
        return self.tpm.maker.collateral(self.leaf, now)

    def evidence(self, sign: Callable[[bytes], bytes], qualifying: bytes) -> bytes:
        """Evidence above hardware that `sign` asks for its report or quote over 64 bytes."""
        quote = self.tpm.quote(qualifying)
        hardware = sign(hardware_data(self.ak_name, qualifying))
        return codec.encode(GoogleEvidence(hardware, self.certificate, codec.decode(TpmQuote, quote)))


def instance(*, production: bool = True) -> bytes:
    """The extension about the machine, in DER."""
    flag = b"\xff" if production else b"\x00"
    security = _tagged(0xA0, _tagged(0x02, b"\x00")) + _tagged(0xA1, _tagged(0x01, flag))
    words = [b"\x0c:strongroom-sim", b"\x02:\x05", b"\x0c:strongroom-sim", b"\x02:\x06", b"\x0c:strongroom-sim"]
    body = b"".join(_tagged(word[0], word[2:]) for word in words)
    return _tagged(0x30, body + _tagged(0xA0, _tagged(0x30, security)))


def _tagged(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content
