"""Is it genuine? The whole ordered verification of an SEV-SNP report, offline, at a given time, under given anchors.

Knows: the steps (SEV-SNP Firmware ABI, publication 56860; VCEK Certificate and KDS Interface Specification, publication
57230) and what each needs of those before it. Does not know: what anyone wants of the guest (`appraisal`), where
collateral comes from, what time it is.

    (1) collateral                  (2) the report's form          (3) anchor, path, revocation
    (4) AMD's word for the chip     (5) product                    (6) signer and signature
    (7) chip and TCB as certified   (8) order of the TCB versions

A claim is made only if the steps that vouch for it passed: without a signature there is no measurement, without a product
there are no parts of TCB versions. Without a revocation list its check is not-run, and the evidence is not genuine.
Debug, VMPL, TCB levels and the rest are claims, and policy judges them. AMD publishes no status for a TCB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.crypto import x509
from strongroom.records.evidence import AmdCollateral
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import NO_CRL, Genuine
from strongroom.tee.snp import claims, endorsement, products
from strongroom.tee.snp.endorsement import ISSUER_PREFIX, ROOT_PREFIX, VCEK_NAME, VLEK_NAME, Endorsement
from strongroom.tee.snp.leaf import Leaf
from strongroom.tee.snp.parse import CHIP_ID_BYTES, NO_KEY, VCEK, VLEK, Report
from strongroom.tee.steps import Doubt, Outcome, Steps, require

KIND = "snp"
ECDSA_P384_SHA384 = 1
GUEST_VMPLS = range(4)
SIGNERS = {VCEK: VCEK_NAME, VLEK: VLEK_NAME}
SHA384 = ec.ECDSA(hashes.SHA384())


@dataclass(frozen=True, slots=True)
class _Chip:
    """What steps 3 to 5 hand on."""

    anchor: Outcome[TrustAnchor]
    path: Outcome[Endorsement]
    leaf: Outcome[Leaf]
    product: Outcome[str]


def verify(report: Report, collateral: AmdCollateral | None, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """Judge `report` with `collateral` under `anchors` at `now` (Unix seconds). Never raises: every doubt is a check."""
    steps = Steps()
    given = steps.run("snp.collateral", lambda: _given(collateral))  # (1)
    algorithm = steps.run("snp.report.algorithm", lambda: _algorithm(report))  # (2)
    steps.run("snp.report.reserved", lambda: _reserved(report))
    steps.run("snp.report.vmpl", lambda: _vmpl(report), describe=str)
    chip = _verify_chip(steps, report, given, anchors, now)  # (3) to (5)
    signer = steps.run("snp.report.signer", lambda: _signer(report, chip.path.value), chip.path, describe=str)  # (6)
    signature = steps.run(
        "snp.report.signature", lambda: _signature(report, chip.path.value), algorithm, chip.path, signer
    )
    steps.run(  # (7)
        "snp.leaf.chip",
        lambda: _certified_chip(report, chip.path.value, chip.leaf.value, chip.product.value),
        chip.leaf,
        chip.product,
        signature,
        describe=str,
    )
    steps.run(
        "snp.leaf.tcb",
        lambda: _certified_tcb(report, chip.leaf.value, chip.product.value),
        chip.leaf,
        chip.product,
        signature,
    )
    steps.run(  # (8)
        "snp.tcb.committed", lambda: _at_most(report.committed_tcb, report.current_tcb, "committed"), signature
    )
    steps.run("snp.tcb.reported", lambda: _at_most(report.reported_tcb, report.current_tcb, "reported"), signature)
    return Genuine(
        kind=KIND,
        checks=steps.checks,
        root_class=chip.anchor.value.root_class if chip.path.holds else None,
        tcb_status=None,
        advisories=(),
        claims=_claims(report, chip) if signature.holds else {},
    )


def _verify_chip(
    steps: Steps, report: Report, given: Outcome[AmdCollateral], anchors: Sequence[TrustAnchor], now: int
) -> _Chip:
    anchor = steps.run("snp.anchor", lambda: _anchor_of(given.value, anchors), given, describe=lambda found: found.name)
    path = steps.run(
        "snp.chain",
        lambda: endorsement.verify_path(given.value, anchor.value.fingerprint, now),
        anchor,
        describe=lambda found: f"{found.name} under {x509.common_name(found.authorities.issuer)}",
    )
    if path.holds and not given.value.crl:
        steps.not_run("snp.crl", NO_CRL)
    else:
        steps.run("snp.crl", lambda: endorsement.verify_list(given.value.crl, path.value.authorities, now), path)
    leaf = steps.run(
        "snp.leaf", lambda: endorsement.leaf_of(path.value.certificate), path, describe=lambda found: found.product_name
    )
    product = steps.run("snp.product", lambda: _product(report, path.value, leaf.value), leaf, describe=str)
    return _Chip(anchor, path, leaf, product)


def _given(collateral: AmdCollateral | None) -> AmdCollateral:
    if collateral is None:
        raise Doubt("no collateral of AMD's was given")
    return collateral


def _algorithm(report: Report) -> bool:
    found = report.signature_algorithm
    require(found == ECDSA_P384_SHA384, f"signature algorithm {found}; only 1 (ECDSA P-384, SHA-384) is known")
    return True


def _reserved(report: Report) -> bool:
    """Nothing is said that is not understood: bits and fields that must be zero are, and the one that must be one is."""
    require(not any(report.reserved), "a reserved field is not zero")
    require(not report.policy & ~claims.POLICY_KNOWN, "the guest's policy has a bit of unknown meaning")
    require(report.policy & claims.POLICY_ONE, "bit 17 of the guest's policy is not one")
    require(not report.platform_info & ~claims.PLATFORM_KNOWN, "the platform information has a bit of unknown meaning")
    require(not report.signer_info & ~claims.SIGNER_KNOWN, "the signer information has a bit of unknown meaning")
    return True


def _vmpl(report: Report) -> int:
    """A report that the guest asked for: what the host asks for itself carries no level that a guest can have."""
    require(report.vmpl in GUEST_VMPLS, f"VMPL {report.vmpl}: no guest asked for this report")
    return report.vmpl


def _anchor_of(collateral: AmdCollateral, anchors: Sequence[TrustAnchor]) -> TrustAnchor:
    """The anchor at which the collateral's own chain ends; a chain that only claims to end there fails the next step."""
    candidates = [anchor for anchor in anchors if anchor.kind == KIND]
    require(candidates, "no trust anchor for SEV-SNP was given")
    root = endorsement.authorities(collateral.chain).fingerprint
    found = [anchor for anchor in candidates if anchor.fingerprint == root]
    require(found, f"the chain's root {root} is not among the trust anchors")
    return found[0]


def _product(report: Report, path: Endorsement, leaf: Leaf) -> str:
    """The one product that the leaf, both certificates above it and, where the report has one, the CPUID speak of."""
    spoken = {
        "the certificate": products.of_name(leaf.product_name),
        "its issuer": products.of_name(x509.common_name(path.authorities.issuer), ISSUER_PREFIX[path.name]),
        "the root": products.of_name(x509.common_name(path.authorities.root), ROOT_PREFIX),
    }
    if report.cpuid is not None:
        spoken["the CPUID"] = products.of_cpuid(*report.cpuid[:2])
    found = set(spoken.values())
    product = found.pop()
    if product is None or found:
        said = ", ".join(f"{who} says {what or 'something unknown'}" for who, what in spoken.items())
        raise Doubt(f"no one product: {said}")
    return product


def _signer(report: Report, path: Endorsement) -> str:
    """The key that the report says signed it, which must be the kind that the certificate is of."""
    require(report.signing_key != NO_KEY, "the report says that it is not signed")
    name = SIGNERS.get(report.signing_key)
    if name is None:
        raise Doubt(f"the report says that key {report.signing_key} signed it, which is reserved")
    require(name == path.name, f"the report says that {name} signed it, the certificate is of {path.name}")
    require(not (name == VCEK_NAME and report.mask_chip_key), "the host keeps the chip's key from signing")
    return name


def _signature(report: Report, path: Endorsement) -> bool:
    try:
        path.key.verify(encode_dss_signature(report.r, report.s), report.signed, SHA384)
    except InvalidSignature:
        raise Doubt("the signature of the report does not hold") from None
    return True


def _certified_chip(report: Report, path: Endorsement, leaf: Leaf, product: str) -> str:
    """The chip that AMD certified is the one that reports. A VLEK is lent to a provider and names no chip."""
    if path.name == VLEK_NAME:
        require(leaf.hwid is None and leaf.provider is not None, "a VLEK names a provider and no chip")
        return f"the provider {leaf.provider}"
    require(leaf.provider is None, "a VCEK names no provider")
    require(any(report.chip_id), "the host masks the chip's id")
    require(leaf.hwid is not None and len(leaf.hwid) == products.HWID_BYTES[product], f"no chip id of {product}")
    require((leaf.hwid or b"").ljust(CHIP_ID_BYTES, b"\0") == report.chip_id, "the certificate is of another chip")
    return "the certified chip"


def _certified_tcb(report: Report, leaf: Leaf, product: str) -> bool:
    certified = leaf.tcb(product)
    said = f"the certificate is of TCB {certified.hex()}, the report of {report.reported_tcb.hex()}"
    require(certified == report.reported_tcb, said)
    return True


def _at_most(tcb: bytes, current: bytes, name: str) -> bool:
    """No part of a TCB version is above the current one; each byte of it is a part, or reserved."""
    higher = any(own > there for own, there in zip(tcb, current, strict=True))
    require(not higher, f"the {name} TCB {tcb.hex()} is above the current {current.hex()}")
    return True


def _claims(report: Report, chip: _Chip) -> dict[str, str | int]:
    """What the signed report says, and what AMD certified of who signed it."""
    found = claims.of_report(report, chip.product.value if chip.product.holds else None)
    found["signing_key"] = chip.path.value.name.removeprefix("SEV-").lower()
    found["chip_id"] = report.chip_id.hex() if any(report.chip_id) else ""
    if chip.leaf.holds:
        found["csp_id"] = chip.leaf.value.provider or ""
    return found
