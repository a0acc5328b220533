"""For each check of SEV-SNP, evidence that fails it and no other.

Knows: one fault each, on a simulated platform; what needs the failed check is then not-run. Does not know: verifiers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.records.evidence import AmdCollateral
from strongroom_sim.snp import TCBS, SnpChip, SnpInstallation, certify_authority

DATA = bytes(range(64))
MEASUREMENT = bytes(48)
EIGHT_YEARS = 8 * 366 * 86_400
HOST_ASKED = 0xFFFF_FFFF
UNKNOWN_BIT = 1 << 40


@dataclass(frozen=True, slots=True)
class Broken:
    """A report, the collateral that comes with it, and the time at which it is judged."""

    evidence: bytes
    collateral: AmdCollateral | None
    now: int


def broken(installation: SnpInstallation, now: int) -> Mapping[str, Broken]:
    """Check id -> evidence under `installation`, made at `now`, that fails this check alone."""

    def chip(**said: object) -> Broken:
        made = SnpChip(installation, measurement=MEASUREMENT, now=now, **said)  # type: ignore[arg-type]
        return Broken(made.report(DATA), made.collateral(now), now)

    whole = SnpChip(installation, measurement=MEASUREMENT, now=now)
    report, collateral = whole.report(DATA), whole.collateral(now)
    tcb = TCBS[installation.product]
    other_product = next(product for product in TCBS if product != installation.product)
    return {
        "snp.collateral": Broken(report, None, now),
        "snp.report.algorithm": chip(algorithm=2),
        "snp.report.reserved": chip(policy=UNKNOWN_BIT | 0x3_0000),
        "snp.report.vmpl": chip(vmpl=HOST_ASKED),
        "snp.anchor": Broken(report, replace(collateral, chain=_under_another_root(installation, now)), now),
        "snp.chain": Broken(report, whole.collateral(now + EIGHT_YEARS), now + EIGHT_YEARS),
        "snp.crl": Broken(report, whole.collateral(now, revoked=("ask",)), now),
        "snp.leaf": chip(leaf={"members": {"2": None}}),
        "snp.product": chip(leaf={"product_name": other_product}),
        "snp.report.signer": chip(signer_info=1 << 2),
        "snp.report.signature": Broken(_with_another_measurement(report), collateral, now),
        "snp.leaf.chip": chip(chip_id=b"\x01".ljust(64, b"\0")),
        "snp.leaf.tcb": chip(reported_tcb=_lower(tcb)),
        "snp.tcb.committed": chip(committed_tcb=_higher(tcb)),
        "snp.tcb.reported": chip(current_tcb=_lower(tcb), committed_tcb=_lower(tcb)),
    }


def _under_another_root(installation: SnpInstallation, now: int) -> str:
    """The same keys and names under a root certificate that nobody named."""
    subject = installation.certificates["ark"].subject
    key = installation.keys["ark"]
    root = certify_authority(subject, key.public_key(), subject, key, now).public_bytes(Encoding.PEM)
    return (installation.certificates["ask"].public_bytes(Encoding.PEM) + root).decode("ascii")


def _with_another_measurement(report: bytes) -> bytes:
    at = 0x90
    return report[:at] + bytes([report[at] ^ 1]) + report[at + 1 :]


def _lower(tcb: bytes) -> bytes:
    """One microcode older."""
    return tcb[:-1] + bytes([tcb[-1] - 1])


def _higher(tcb: bytes) -> bytes:
    return tcb[:-1] + bytes([tcb[-1] + 1])
