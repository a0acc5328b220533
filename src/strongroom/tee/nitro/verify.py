"""Is it genuine? The whole ordered verification of a Nitro attestation document, offline, at a given time.

Knows: the steps (AWS "attestation_process.md", section 3.2.3) and what AWS's certificates look like. Does not know:
what anyone wants of the enclave (`appraisal`), what time it is.

    (1) anchor: the bundle's first certificate   (2) chain: validity, roles   (3) CRLs, where there are any
    (4) signature   (5) timestamp   (6) registers

AWS tells verifiers to leave revocation out (section 3.2.4), yet publishes CRLs for the upper two links. So without
CRLs there is no check of them, and the claim `revocation` is `none`; with CRLs all of them must hold, and the claim is
`checked` where every certificate that names a CRL was looked up, else `partly`. Policy decides which will do. A claim
is made only if the steps that vouch for it passed. A debug enclave is genuine: its registers are zero, which is a claim
that every appraisal refuses. Not covered: AWS partitions with roots of their own (China, GovCloud).
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.crypto import cose, x509
from strongroom.crypto.schemes import Scheme
from strongroom.crypto.x509 import Hierarchy, Role
from strongroom.records.evidence import AwsCollateral
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.nitro.parse import Document
from strongroom.tee.steps import Outcome, Steps, require

KIND = "nitro"
AWS = Hierarchy(frozenset({Scheme.ECDSA_P384_SHA384}), leaf_curve=ec.SECP384R1)
CA_SUFFIX = ".aws.nitro-enclaves"
LEAF_SUFFIX = ".aws"
ENCLAVE_MARK = "-enc"
IMAGE_PCRS = (0, 1, 2)
SHA384_BYTES = 48
CLOCK_SKEW = 5
"""Seconds by which a document may seem to come from the future: the clocks of AWS and of the verifier differ."""
MAX_CRLS = 16
SHORTEST_PATH = 3
"""The enclave, its instance, the root."""

Chain = list[certificates.Certificate]


def verify(document: Document, collateral: AwsCollateral | None, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """Judge `document` under `anchors` at `now` (Unix seconds). Never raises: every doubt is a check."""
    steps = Steps()
    anchor = steps.run("nitro.anchor", lambda: _anchor_of(document, anchors), describe=lambda found: found.name)  # (1)
    chain = steps.run(  # (2)
        "nitro.chain",
        lambda: _chain(document, anchor.value, now),
        anchor,
        describe=lambda found: x509.common_name(found[0]),
    )
    revocation: Outcome[str] | None = None
    if collateral is not None and collateral.crls:
        crls = collateral.crls
        revocation = steps.run("nitro.crl", lambda: _revocation(chain.value, crls, now), chain, describe=str)  # (3)

    def signed() -> Document:
        key = x509.ec_key(chain.value[0], ec.SECP384R1)
        cose.verify(document.message, key, cose.Algorithm.ES384)
        return document

    signature = steps.run("nitro.signature", signed, chain)  # (4)
    age = steps.run(  # (5)
        "nitro.timestamp",
        lambda: (_age(document, chain.value[0], now),),
        signature,
        describe=lambda found: f"{found[0]} seconds old",
    )
    registers = steps.run("nitro.pcrs", lambda: _registers(document), signature)  # (6)
    return Genuine(
        kind=KIND,
        checks=steps.checks,
        root_class=_root_class(anchor, chain),
        tcb_status=None,
        advisories=(),
        claims=_claims(document, chain, signature, revocation, age, registers),
    )


def _root_class(anchor: Outcome[TrustAnchor], chain: Outcome[Chain]) -> RootClass | None:
    return anchor.value.root_class if chain.holds else None


def _anchor_of(document: Document, anchors: Sequence[TrustAnchor]) -> TrustAnchor:
    """The anchor that the bundle's first certificate is, byte for byte."""
    candidates = [anchor for anchor in anchors if anchor.kind == KIND]
    require(candidates, "no trust anchor for Nitro Enclaves was given")
    root = x509.certificate_digest(x509.load_certificate(document.cabundle[0]))
    found = [anchor for anchor in candidates if anchor.fingerprint == root]
    require(found, f"the document's root {root} is not among the trust anchors")
    return found[0]


def _chain(document: Document, anchor: TrustAnchor, now: int) -> Chain:
    """The path, leaf first: the enclave's certificate, its instance's, the zone's, the region's, the root."""
    chain = [x509.load_certificate(der) for der in (document.certificate, *reversed(document.cabundle))]
    require(len(set(document.cabundle)) == len(document.cabundle), "a certificate stands in the bundle twice")
    require(len(chain) >= SHORTEST_PATH, "no certificate of an instance stands between enclave and root")
    x509.check_path(chain, root=anchor.fingerprint, roles=_roles(document, len(chain) - 1), now=now, hierarchy=AWS)
    return chain


def _roles(document: Document, count: int) -> list[Role]:
    """Who may stand below the root: this very enclave, above it its own instance, above that CAs of AWS Nitro."""
    instance = _instance(document)

    def leaf(certificate: certificates.Certificate) -> bool:
        name = x509.common_name(certificate)
        return name.startswith(f"{document.module_id}.") and name.endswith(LEAF_SUFFIX)

    def of_instance(certificate: certificates.Certificate) -> bool:
        name = x509.common_name(certificate)
        return name.startswith(f"{instance}.") and name.endswith(CA_SUFFIX)

    def of_nitro(certificate: certificates.Certificate) -> bool:
        return x509.common_name(certificate).endswith(CA_SUFFIX)

    return [leaf, of_instance, *[of_nitro] * (count - 2)]


def _revocation(chain: Chain, crls: tuple[bytes, ...], now: int) -> str:
    """`checked` or `partly`, once every CRL is of a CA in the path, holds, and lists nothing in the path."""
    require(len(crls) <= MAX_CRLS, f"{len(crls)} CRLs are more than {MAX_CRLS}")
    covered: set[int] = set()
    for der in crls:
        crl = x509.load_crl(der)
        issuers = [place for place in range(1, len(chain)) if chain[place].subject == crl.issuer]
        require(len(issuers) == 1, "a CRL of nobody in the path, or of two in it")
        x509.check_crl(crl, issuer=chain[issuers[0]], now=now, hierarchy=AWS)
        x509.check_not_revoked(chain[issuers[0] - 1], crl)
        covered.add(issuers[0])
    named = {place for place in range(1, len(chain)) if _names_crl(chain[place - 1])}
    return "checked" if named and named <= covered else "partly"


def _names_crl(certificate: certificates.Certificate) -> bool:
    return any(isinstance(found.value, certificates.CRLDistributionPoints) for found in certificate.extensions)


def _age(document: Document, leaf: certificates.Certificate, now: int) -> int:
    """Seconds since the document was made, which must lie in the life of its key and not after now."""
    made = document.timestamp // 1000
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    require(start.timestamp() <= made <= end.timestamp(), f"made at {made}, its key lives from {start} to {end}")
    require(made <= now + CLOCK_SKEW, f"made {made - now} seconds after the time of this verification")
    return max(0, now - made)


def _registers(document: Document) -> Document:
    """The registers of the image are there, and every register is one of the stated digest."""
    missing = [f"PCR{index}" for index in IMAGE_PCRS if index not in document.pcrs]
    require(not missing, f"the document leaves out {', '.join(missing)}")
    wrong = [f"PCR{index}" for index, value in document.pcrs.items() if len(value) != SHA384_BYTES]
    require(not wrong, f"{', '.join(wrong)} is no SHA-384 digest")
    return document


def _claims(
    document: Document,
    chain: Outcome[Chain],
    signature: Outcome[Document],
    revocation: Outcome[str] | None,
    age: Outcome[tuple[int]],
    registers: Outcome[Document],
) -> dict[str, str | int]:
    claims: dict[str, str | int] = {}
    if revocation is None and chain.holds:
        claims["revocation"] = "none"
    if revocation is not None and revocation.holds:
        claims["revocation"] = revocation.value
    if signature.holds:
        claims |= identity(document)
    if age.holds:
        claims["age_seconds"] = age.value[0]
    if registers.holds:
        claims |= measurements(document)
    return claims


def identity(document: Document) -> dict[str, str | int]:
    """Who a document says it is from, and what it binds."""
    return {
        "module_id": document.module_id,
        "instance": _instance(document),
        "timestamp": document.timestamp,
        "report_data": (document.user_data or b"").hex(),
        "nonce": (document.nonce or b"").hex(),
        "public_key": (document.public_key or b"").hex(),
    }


def measurements(document: Document) -> dict[str, str | int]:
    """What a document says of its registers."""
    return {f"pcr{index}": value.hex() for index, value in document.pcrs.items()}


def _instance(document: Document) -> str:
    """The machine on which the enclave runs: the part of its name before its own."""
    return document.module_id.split(ENCLAVE_MARK)[0]
