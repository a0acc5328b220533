"""AMD's extensions of a VCEK or VLEK certificate, read with a strict DER reader of its own.

Knows: the members below 1.3.6.1.4.1.3704.1 (publication 57230, VCEK and VLEK certificate definitions): structure version,
product name, security patch levels, hardware id, cloud provider. Does not know: whether the certificate holds
(`crypto.x509`), which levels a product must have (`products`). Members that AMD adds are skipped; values that are not
in their one DER form are refused. The certificate's serial number is never looked at: it is 0 in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509

from strongroom.errors import MalformedEvidence
from strongroom.tee.snp.products import HWID_BYTES, SPLS

ARC = "1.3.6.1.4.1.3704.1"
_STRUCTURE, _PRODUCT, _LEVEL, _HWID, _PROVIDER = (f"{ARC}.{member}" for member in (1, 2, 3, 4, 5))
STRUCTURE_VERSIONS = (0, 1)
MAX_NAME = 128

_INTEGER, _OCTETS, _TEXT = 0x02, 0x04, 0x16
_SIZES = frozenset(HWID_BYTES.values())


@dataclass(frozen=True, slots=True)
class Leaf:
    """What AMD certified: `levels` by the last arc of their extension, `hwid` of a VCEK, `provider` of a VLEK."""

    product_name: str
    levels: Mapping[int, int]
    hwid: bytes | None
    provider: str | None

    def tcb(self, product: str) -> bytes:
        """The certified levels as a TCB version of `product`.

        Raises `MalformedEvidence` where levels are missing or are not of this product.
        """
        order = SPLS[product]
        if self.levels.keys() != set(order):
            raise MalformedEvidence(f"the certificate does not have the patch levels of {product}")
        return bytes(self.levels[arc] for arc in order)


def parse_leaf(certificate: x509.Certificate) -> Leaf:
    """Read AMD's extensions of a VCEK or VLEK certificate. Raises `MalformedEvidence`."""
    members = {
        extension.oid.dotted_string: extension.value.value
        for extension in certificate.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    if _STRUCTURE not in members or _PRODUCT not in members:
        raise MalformedEvidence("the certificate lacks an extension of AMD's")
    if _integer(members[_STRUCTURE]) not in STRUCTURE_VERSIONS:
        raise MalformedEvidence("the certificate's extensions are of an unknown version")
    levels = {
        int(name.rpartition(".")[2]): _integer(value)
        for name, value in members.items()
        if name.rpartition(".")[0] == _LEVEL
    }
    hwid, provider = members.get(_HWID), members.get(_PROVIDER)
    return Leaf(
        product_name=_text(members[_PRODUCT]),
        levels=levels,
        hwid=None if hwid is None else _hwid(hwid),
        provider=None if provider is None else _text(provider),
    )


def _hwid(value: bytes) -> bytes:
    """AMD writes the identifier bare in most certificates and as an OCTET STRING in some; its size tells which."""
    if len(value) in _SIZES:
        return value
    content = _element(value, _OCTETS)
    if len(content) not in _SIZES:
        raise MalformedEvidence(f"a hardware id of {len(content)} bytes")
    return content


def _integer(value: bytes) -> int:
    content = _element(value, _INTEGER)
    padded = len(content) > 1 and content[0] == 0 and content[1] < 0x80  # noqa: PLR2004 (the sign bit)
    number = int.from_bytes(content, "big", signed=True)
    if not content or padded or not 0 <= number <= 0xFF:  # noqa: PLR2004 (one byte of a TCB version)
        raise MalformedEvidence("a number in AMD's extensions is out of range or not in its shortest form")
    return number


def _text(value: bytes) -> str:
    content = _element(value, _TEXT)
    if not 0 < len(content) <= MAX_NAME or not all(0x20 <= octet < 0x7F for octet in content):  # noqa: PLR2004 (printable)
        raise MalformedEvidence("a name in AMD's extensions is empty, too long or not printable")
    return content.decode("ascii")


def _element(value: bytes, tag: int) -> bytes:
    """The contents of the one DER element that `value` is (X.690 section 8.1). None here needs a long length."""
    if len(value) < 2 or value[0] != tag or value[1] >= 0x80:  # noqa: PLR2004 (tag and length; long form)
        raise MalformedEvidence("an extension of AMD's is not the DER it should be")
    if value[1] != len(value) - 2:
        raise MalformedEvidence("an extension of AMD's ends early, or something follows it")
    return value[2:]
