"""What a piece of evidence needs of its vendor, and how the parts become one record.

Knows: which items each vendor's record takes. Does not know: how evidence says what it needs (`evidence`), or where the
items come from. URLs inside evidence are no need: what is fetched is named here and placed by configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from strongroom.collateral.items import (
    AmdChain,
    AmdCrl,
    AmdLeaf,
    AmdProduct,
    AmdSigner,
    CrlKind,
    IntelCa,
    IntelKind,
    Item,
    Part,
    PckCrl,
    PlacedCrl,
    QeIdentity,
    RootCrl,
    TcbInfo,
)
from strongroom.errors import UsageError
from strongroom.records.evidence import AmdCollateral, AwsCollateral, Collateral, IntelCollateral, TpmCollateral
from strongroom.tee.snp.products import HWID_BYTES

FMSPC_BYTES = 6
CHIP_ID_BYTES = 64
TCB_BYTES = 8
AUTHORITIES: dict[str, IntelCa] = {
    "Intel SGX PCK Platform CA": "platform",
    "Intel SGX PCK Processor CA": "processor",
}


class Needs(Protocol):
    """What one piece of evidence needs of one vendor."""

    @property
    def items(self) -> tuple[Item, ...]: ...

    def assemble(self, part: Callable[[Item], Part]) -> Collateral:
        """The record, of the parts that `part` gives for `items`."""
        ...


@dataclass(frozen=True, slots=True)
class IntelNeeds:
    """TDX and SGX: the platform family (6 bytes), the CA that issued the platform's certificate, and the track.

    `update` is `standard`, or `early` for what Intel publishes ahead of its enforcement; `evaluation` names one
    evaluation number instead (PCS API v4, TCB info). Raises `UsageError` for what has no meaning.
    """

    kind: IntelKind
    fmspc: bytes
    ca: IntelCa
    update: Literal["standard", "early"] = "standard"
    evaluation: int | None = None

    def __post_init__(self) -> None:
        _expect(self.kind in get_args(IntelKind), "the kind is tdx or sgx")
        _expect(len(self.fmspc) == FMSPC_BYTES, f"an FMSPC has {FMSPC_BYTES} bytes")
        _expect(self.ca in get_args(IntelCa), "the CA is platform or processor")
        _expect(self.update in {"standard", "early"}, "the update is standard or early")
        _expect(self.evaluation is None or self.evaluation > 0, "an evaluation number is positive")
        _expect(self.evaluation is None or self.update == "standard", "an evaluation number leaves no choice of update")

    @property
    def items(self) -> tuple[TcbInfo, QeIdentity, PckCrl, RootCrl]:
        track = self.update if self.evaluation is None else str(self.evaluation)
        return (
            TcbInfo(self.kind, self.fmspc, track),
            QeIdentity(self.kind, track),
            PckCrl(self.ca),
            RootCrl(self.ca),
        )

    def assemble(self, part: Callable[[Item], Part]) -> Collateral:
        tcb_info, identity, pck_crl, root_crl = (part(item) for item in self.items)
        return Collateral(
            intel=IntelCollateral(
                tcb_info=tcb_info.body.decode("utf-8"),
                tcb_info_signature=tcb_info.signature,
                tcb_info_chain=tcb_info.chain,
                qe_identity=identity.body.decode("utf-8"),
                qe_identity_signature=identity.signature,
                qe_identity_chain=identity.chain,
                root_ca_crl=root_crl.body,
                pck_crl=pck_crl.body,
                pck_crl_chain=pck_crl.chain,
            )
        )


@dataclass(frozen=True, slots=True)
class AmdNeeds:
    """SNP: the product, CHIP_ID (64 bytes) and REPORTED_TCB (8 bytes) as they stand in the report, and who signed it.

    `leaf` (DER) is the signer's certificate where the evidence brings it; it is then not asked for. A VLEK must come
    that way, because KDS gives it only to the cloud provider that it is for. Raises `UsageError`.
    """

    product: AmdProduct
    chip_id: bytes
    tcb: bytes
    signer: AmdSigner = "vcek"
    leaf: bytes = b""

    def __post_init__(self) -> None:
        _expect(self.product in get_args(AmdProduct), f"a product is one of {', '.join(get_args(AmdProduct))}")
        _expect(self.signer in get_args(AmdSigner), "a report is signed by a vcek or a vlek")
        _expect(len(self.chip_id) == CHIP_ID_BYTES, f"a CHIP_ID has {CHIP_ID_BYTES} bytes")
        _expect(len(self.tcb) == TCB_BYTES, f"a TCB_VERSION has {TCB_BYTES} bytes")
        _expect(self.leaf or self.signer == "vcek", "a VLEK comes with its evidence, AMD does not give it to others")
        hidden = not any(self.chip_id)
        _expect(self.leaf or not hidden, "a report without CHIP_ID does not say whose certificate to ask for")

    @property
    def items(self) -> tuple[AmdChain | AmdCrl | AmdLeaf, ...]:
        above = (AmdChain(self.product, self.signer), AmdCrl(self.product, self.signer))
        return above if self.leaf else (*above, self._leaf)

    def assemble(self, part: Callable[[Item], Part]) -> Collateral:
        chain, crl = (part(item) for item in self.items[:2])
        leaf = self.leaf or part(self._leaf).body
        return Collateral(amd=AmdCollateral(leaf=leaf, chain=chain.chain, crl=crl.body))

    @property
    def _leaf(self) -> AmdLeaf:
        return AmdLeaf(self.product, self.chip_id[: HWID_BYTES[self.product]], self.tcb)


@dataclass(frozen=True, slots=True)
class CrlNeeds:
    """Nitro and TPM: CRLs at `places` of the configuration, for the CAs of the evidence's own chain.

    `chain` (PEM) goes from the evidence's certificate, or from the lowest CA, up to the root. Raises `UsageError`.
    """

    kind: CrlKind
    chain: str
    places: tuple[str, ...]

    def __post_init__(self) -> None:
        _expect(self.kind in get_args(CrlKind), "the kind is nitro or tpm")
        _expect(self.places, "at least one place is named")

    @property
    def items(self) -> tuple[PlacedCrl, ...]:
        return tuple(PlacedCrl(self.kind, place, self.chain) for place in self.places)

    def assemble(self, part: Callable[[Item], Part]) -> Collateral:
        crls = tuple(part(item).body for item in self.items)
        if self.kind == "nitro":
            return Collateral(aws=AwsCollateral(crls))
        return Collateral(tpm=TpmCollateral(self.chain, crls))


def _expect(condition: object, rule: str) -> None:
    if not condition:
        raise UsageError(f"collateral cannot be asked for like this: {rule}")
