"""The simulated quoting enclave: it certifies an attestation key, and signs what the platform says with that key.

Knows: signature data of quotes of versions 3, 4 and 5 (Intel SGX ECDSA QuoteGen Reference; Intel TDX DCAP Quoting
Library API), the SGX report. Does not know: what is quoted (`chip`, `sgx`). Every enclave report says who made it:
its MRENCLAVE and MRSIGNER are hashes of names that begin with strongroom-sim.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.crypto import signatures
from strongroom_sim import tcb
from strongroom_sim.ca import Installation, sign_raw

QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
MARK = b"strongroom-sim".ljust(20, b"\0")
AUTH_DATA = bytes(range(32))
QE_MRENCLAVE = hashlib.sha256(b"strongroom-sim/mrenclave/v1").digest()
PCK_CHAIN, QE_CERTIFICATION = 5, 6


class QuotingEnclave:
    """One quoting enclave of `product` on the platform of an installation, with an attestation key of its own."""

    def __init__(
        self,
        installation: Installation,
        product: int,
        *,
        svn: int = tcb.QE_SVN,
        mrsigner: bytes = tcb.QE_MRSIGNER,
        vouches_for: EllipticCurvePrivateKey | None = None,
    ) -> None:
        """The last three are for tests of what a verifier must notice."""
        self._installation = installation
        self._key = signatures.generate_p256()
        self._kept: tuple[EllipticCurvePrivateKey, bytes] | None = None
        self._report = enclave_report(
            attributes=tcb.QE_ATTRIBUTES,
            mrenclave=QE_MRENCLAVE,
            mrsigner=mrsigner,
            isvprodid=product,
            isvsvn=svn,
            report_data=hashlib.sha256(_point(vouches_for or self._key) + AUTH_DATA).digest() + bytes(32),
        )

    def _certified(self) -> bytes:
        """The platform's signature on this enclave's report: made once and kept, as Intel's quoting enclave does."""
        key = self._installation.keys["pck"]
        if self._kept is None or self._kept[0] is not key:
            self._kept = (key, sign_raw(key, self._report))
        return self._kept[1]

    def quote(self, signed: bytes, *, wrapped: bool, named: bytes | None = None) -> bytes:
        """A whole quote over header and body (`signed`).

        `wrapped` as versions 4 and 5 have it. `named` are certification data of type 1 to put where the chain would be.
        """
        chain = self._installation.pck_chain
        platform = (_u16(PCK_CHAIN), chain) if named is None else (_u16(1), named)
        certification = b"".join(
            (
                self._report,
                self._certified(),
                _u16(len(AUTH_DATA)) + AUTH_DATA,
                platform[0] + _u32(len(platform[1])) + platform[1],
            )
        )
        if wrapped:
            certification = _u16(QE_CERTIFICATION) + _u32(len(certification)) + certification
        signature = sign_raw(self._key, signed) + _point(self._key) + certification
        return signed + _u32(len(signature)) + signature


def header(version: int, tee_type: int, vendor: bytes = QE_VENDOR) -> bytes:
    """The header of a quote, 48 bytes, which says that it is simulated."""
    return b"".join((_u16(version), _u16(2), _u32(tee_type), bytes(4), vendor, MARK))


def enclave_report(
    *,
    attributes: bytes,
    mrenclave: bytes,
    mrsigner: bytes,
    isvprodid: int,
    isvsvn: int,
    report_data: bytes,
    miscselect: bytes = bytes(4),
    config_id: bytes = bytes(64),
    config_svn: int = 0,
    ext_prod_id: bytes = bytes(16),
    family_id: bytes = bytes(16),
) -> bytes:
    """An SGX report, 384 bytes."""
    return b"".join(
        (
            bytes(tcb.COMPONENTS) + miscselect + bytes(12) + ext_prod_id,
            attributes + mrenclave + bytes(32) + mrsigner + bytes(32) + config_id,
            _u16(isvprodid) + _u16(isvsvn) + _u16(config_svn) + bytes(42) + family_id + report_data,
        )
    )


def _point(key: EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
