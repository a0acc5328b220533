"""What is fetched and kept: one item for each thing that a vendor signs, and the part that answers it.

Knows: names, and which item brings the certificates that another one needs. Does not know: where an item is fetched
(`fetchers`), whether a part holds (`checks`).

An item's `name` is its address in the cache. `issuer` is the item whose certificates sign this one, where the vendor
does not send them along. An item that is `lasting` never changes under its name (a chip's certificate), so it is not
asked for again before it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

IntelKind: TypeAlias = Literal["tdx", "sgx"]
IntelCa: TypeAlias = Literal["platform", "processor"]
AmdProduct: TypeAlias = Literal["Milan", "Genoa", "Turin"]
AmdSigner: TypeAlias = Literal["vcek", "vlek"]
CrlKind: TypeAlias = Literal["nitro", "tpm"]


@dataclass(frozen=True, slots=True)
class Part:
    """A vendor's answer: `body` is the exact signed text or the DER, and `signature` what stands beside it, or empty.

    `chain` are the certificates above it (PEM), who signed it first and the root last.
    """

    TYPE: ClassVar[str] = "strongroom/collateral-part/v1"
    body: bytes
    signature: bytes
    chain: str


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """TCB info of one platform family; `track` is `standard`, `early` or an evaluation number in decimal."""

    issuer: ClassVar[None] = None
    lasting: ClassVar[bool] = False
    kind: IntelKind
    fmspc: bytes
    track: str

    @property
    def name(self) -> str:
        return f"intel/{self.kind}/tcb/{self.fmspc.hex()}/{self.track}"


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """The identity of the quoting enclave; `track` as in TCB info."""

    issuer: ClassVar[None] = None
    lasting: ClassVar[bool] = False
    kind: IntelKind
    track: str

    @property
    def name(self) -> str:
        return f"intel/{self.kind}/qe/{self.track}"


@dataclass(frozen=True, slots=True)
class EvaluationNumbers:
    """Which TCB evaluation numbers Intel supports, with the dates of their TCB recovery events."""

    issuer: ClassVar[None] = None
    lasting: ClassVar[bool] = False
    kind: IntelKind

    @property
    def name(self) -> str:
        return f"intel/{self.kind}/evaluation-numbers"


@dataclass(frozen=True, slots=True)
class PckCrl:
    """The CRL of the CA that issues platforms' certificates."""

    issuer: ClassVar[None] = None
    lasting: ClassVar[bool] = False
    ca: IntelCa

    @property
    def name(self) -> str:
        return f"intel/pck-crl/{self.ca}"


@dataclass(frozen=True, slots=True)
class RootCrl:
    """The CRL of Intel's root. It comes without certificates; the chain of a PCK CRL ends at that root."""

    lasting: ClassVar[bool] = False
    name: ClassVar[str] = "intel/root-crl"
    ca: IntelCa

    @property
    def issuer(self) -> PckCrl:
        return PckCrl(self.ca)


@dataclass(frozen=True, slots=True)
class AmdChain:
    """ASK (or ASVK) and ARK of a product."""

    issuer: ClassVar[None] = None
    lasting: ClassVar[bool] = True
    product: AmdProduct
    signer: AmdSigner

    @property
    def name(self) -> str:
        return f"amd/{self.product}/{self.signer}/chain"


@dataclass(frozen=True, slots=True)
class AmdLeaf:
    """The VCEK of one chip at one TCB: `hwid` as AMD certifies it, `tcb` as the report lays it out (8 bytes)."""

    lasting: ClassVar[bool] = True
    product: AmdProduct
    hwid: bytes
    tcb: bytes

    @property
    def name(self) -> str:
        return f"amd/{self.product}/vcek/{self.hwid.hex()}/{self.tcb.hex()}"

    @property
    def issuer(self) -> AmdChain:
        return AmdChain(self.product, "vcek")


@dataclass(frozen=True, slots=True)
class AmdCrl:
    """The ARK's CRL."""

    lasting: ClassVar[bool] = False
    product: AmdProduct
    signer: AmdSigner

    @property
    def name(self) -> str:
        return f"amd/{self.product}/{self.signer}/crl"

    @property
    def issuer(self) -> AmdChain:
        return AmdChain(self.product, self.signer)


@dataclass(frozen=True, slots=True)
class PlacedCrl:
    """A CRL at a place that the configuration names. `chain` has who issues it first and the root last (PEM)."""

    issuer: ClassVar[None] = None
    lasting: ClassVar[bool] = False
    kind: CrlKind
    place: str
    chain: str

    @property
    def name(self) -> str:
        return f"crl/{self.kind}/{self.place}"


Item: TypeAlias = TcbInfo | QeIdentity | EvaluationNumbers | PckCrl | RootCrl | AmdChain | AmdLeaf | AmdCrl | PlacedCrl
