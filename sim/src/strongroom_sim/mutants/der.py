"""DER as far as mutants need it: elements in one form, and signed structures taken apart and signed anew.

Knows: tag, length, content (X.690 section 8.1); that certificates and lists are what is signed, an algorithm, a signature
(RFC 5280 sections 4.1 and 5.1). Does not know: what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

SEQUENCE, INTEGER, BITS, OCTETS, OID, BOOLEAN, ENUMERATED = 0x30, 0x02, 0x03, 0x04, 0x06, 0x01, 0x0A
LONG = 0x80


@dataclass(frozen=True, slots=True)
class Signer:
    """Whoever signs certificates, lists and documents, and how."""

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512
    pss: padding.PSS | None = None

    def sign(self, data: bytes) -> bytes:
        """A signature as X.509 has it."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, self.pss or padding.PKCS1v15(), self.algorithm)
        return self.key.sign(data, ec.ECDSA(self.algorithm))

    def certificate(self, builder: x509.CertificateBuilder) -> bytes:
        """The certificate, DER."""
        return builder.sign(self.key, self.algorithm, rsa_padding=self.pss).public_bytes(Encoding.DER)

    def crl(self, builder: x509.CertificateRevocationListBuilder) -> bytes:
        """The list, DER."""
        return builder.sign(self.key, self.algorithm, rsa_padding=self.pss).public_bytes(Encoding.DER)

    def again(self, der: bytes, unsigned: bytes) -> bytes:
        """What `der` would be if it said `unsigned`: signed anew, with the algorithm that it names outside."""
        _, algorithm, _ = parts(der)
        signature = element(BITS, b"\0" + self.sign(unsigned))
        return element(SEQUENCE, unsigned + algorithm + signature)


def element(tag: int, content: bytes) -> bytes:
    """One element in its shortest form."""
    size = len(content)
    width = (size.bit_length() + 7) // 8
    length = bytes([size]) if size < LONG else bytes([LONG | width]) + size.to_bytes(width, "big")
    return bytes([tag]) + length + content


def integer(value: int) -> bytes:
    """A number that is not negative."""
    return element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def parts(der: bytes) -> tuple[bytes, bytes, bytes]:
    """What is signed, the algorithm, the signature: each a whole element."""
    content = inside(der)
    first, rest = split(content)
    second, third = split(rest)
    return first, second, third


def inside(der: bytes) -> bytes:
    """The content of the element at the start."""
    start, size = _head(der)
    return der[start : start + size]


def split(der: bytes) -> tuple[bytes, bytes]:
    """The element at the start, and what follows it."""
    start, size = _head(der)
    return der[: start + size], der[start + size :]


def _head(der: bytes) -> tuple[int, int]:
    length = der[1]
    if length < LONG:
        return 2, length
    width = length & ~LONG
    return 2 + width, int.from_bytes(der[2 : 2 + width], "big")
