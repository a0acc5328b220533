"""Real evidence of Intel's platforms, and a simulated installation to derive bad evidence from; for TDX and SGX alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import dcap_qvl

from strongroom.records.evidence import IntelCollateral
from strongroom.records.verdict import Status
from strongroom.tee import sgx, tdx
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom_sim import Chip, Installation
from strongroom_sim.sgx import SgxEnclave

NOW = 1_790_000_000
DATA = bytes(range(64))
MRENCLAVE = bytes(range(32))
JUDGES: Mapping[str, Callable[[bytes, IntelCollateral | None, list[TrustAnchor], int], Genuine]] = {
    "tdx": lambda quote, collateral, anchors, now: tdx.verify(tdx.parse_quote(quote), collateral, anchors, now),
    "sgx": lambda quote, collateral, anchors, now: sgx.verify(sgx.parse_quote(quote), collateral, anchors, now),
}


@dataclass
class Place:
    """A simulated installation, its anchor for one kind, its collateral at `NOW`, and good evidence."""

    installation: Installation
    kind: str
    now: int = NOW
    anchor: TrustAnchor = field(init=False)
    collateral: IntelCollateral = field(init=False)
    chip: Chip = field(init=False)
    enclave: SgxEnclave = field(init=False)

    def __post_init__(self) -> None:
        self.anchor = installation_anchor(self.kind, self.installation.root_pem)
        self.collateral = self.installation.collateral(NOW, kind=self.kind)
        self.chip = Chip(self.installation, mrtd=bytes(48))
        self.enclave = SgxEnclave(self.installation, mrenclave=MRENCLAVE)

    @property
    def quote(self) -> bytes:
        return self.chip.quote(DATA) if self.kind == "tdx" else self.enclave.quote(DATA)

    def judge(self, quote: bytes, collateral: IntelCollateral | None = None, now: int = NOW) -> Genuine:
        return JUDGES[self.kind](quote, collateral or self.collateral, [self.anchor], now)


def make_place(kind: str) -> Place:
    return Place(Installation.ephemeral(NOW), kind)


def failures(genuine: Genuine) -> set[str]:
    return {check.id for check in genuine.checks if check.status is Status.FAIL}


def collateral_of(bundle: str | bytes) -> IntelCollateral:
    """A bundle in the shape of QuoteCollateralV3 as our record."""
    found = json.loads(bundle)
    octets = {
        name: bytes.fromhex(found[name])
        for name in ("tcb_info_signature", "qe_identity_signature", "root_ca_crl", "pck_crl")
    }
    return IntelCollateral(
        tcb_info=found["tcb_info"],
        tcb_info_chain=found["tcb_info_issuer_chain"],
        qe_identity=found["qe_identity"],
        qe_identity_chain=found["qe_identity_issuer_chain"],
        pck_crl_chain=found["pck_crl_issuer_chain"],
        **octets,
    )


def peers_collateral(collateral: IntelCollateral) -> Any:
    """Our record in the shape of the second opinion's."""
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_chain,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_chain,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=collateral.qe_identity_chain,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=collateral.qe_identity_signature,
    )


def signed_document(path: Path, name: str) -> tuple[str, bytes]:
    """A response of Intel's service: the exact text that was signed, and the signature."""
    raw = path.read_text()
    start = raw.index("{", raw.index(f'"{name}"'))
    end = raw.rindex("}", 0, raw.rindex('"signature"')) + 1
    return raw[start:end], bytes.fromhex(json.loads(raw)["signature"])


def noon(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp())


def read_quote(vectors: Path, name: str) -> bytes:
    """The quote in a vector, without what lies behind it: zeros of a device's buffer, or an upstream test's own words."""
    data = (vectors / name).read_bytes()
    if name.endswith(".json"):
        data = bytes.fromhex(json.loads(data)["quote"])
    trim = sgx.trim if data[:2] == b"\x03\x00" else tdx.trim
    return trim(data.removesuffix(b"\nextra bytes(only for testing purpose)\n"))


def second_opinion(quote: bytes, bundle: str, now: int) -> str | None:
    """The status that dcap-qvl finds, or None: it refuses."""
    try:
        report = dcap_qvl.verify(quote, dcap_qvl.QuoteCollateralV3.from_json(bundle), now)
    except ValueError:
        return None
    return str(report.status)
