"""Is it genuine? The whole ordered verification of a TDX quote, offline, at a given time, under given anchors.

Knows: the steps (Intel TDX DCAP Quoting Library API; PCS API v4; Intel SGX PCK Certificate and CRL Profile) and what
each needs of those before it. Does not know: what anyone wants of the TD (`appraisal`), where collateral comes from,
what time it is.

    (1) header         (2) anchor and PCK path      (3) CRLs             (4) PCK extension
    (5) TCB info       (6) QE identity              (7) quoting enclave  (8) quote signature   (9) TCB levels

A claim is made only if the steps that vouch for it passed: without a quote signature there are no measurements.
Revocation and freshness are never optional; collateral must hang from the same anchor as the quote; nothing is fetched.
A debug TD is genuine: its attributes are a claim, and policy refuses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509 as certificates
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.crypto import x509
from strongroom.records.evidence import Collateral
from strongroom.records.verdict import Check, RootClass
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.tdx import documents, tcb
from strongroom.tee.tdx.documents import Level, QeIdentity, TcbInfo
from strongroom.tee.tdx.parse import Quote
from strongroom.tee.tdx.pck import PckExtension, parse_extension
from strongroom.tee.tdx.steps import Doubt, Outcome, Steps, require

KIND = "tdx"
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
PCK_LEAF = {"Intel SGX PCK Certificate"}
PCK_CA = {"Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"}
TCB_SIGNER = {"Intel SGX TCB Signing"}
P256_SIGNATURE_BYTES = 64

D = TypeVar("D", TcbInfo, QeIdentity)


@dataclass(frozen=True, slots=True)
class Genuine:
    """What verification found. It is genuine if every check passed; `checks` is never empty.

    `root_class` is that of the anchor under which the platform's path holds, or None. `tcb_status` is the merged
    status of platform, TDX module and quoting enclave, or None where one of them has none. Claims are lower-case
    hexadecimal, or numbers.
    """

    checks: tuple[Check, ...]
    root_class: RootClass | None
    tcb_status: str | None
    advisories: tuple[str, ...]
    claims: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class _Platform:
    """What steps 2 to 4 hand on."""

    anchor: Outcome[TrustAnchor]
    chain: Outcome[list[certificates.Certificate]]
    root_crl: Outcome[certificates.CertificateRevocationList]
    extension: Outcome[PckExtension]


def verify(quote: Quote, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """Judge `quote` with `collateral` under `anchors` at `now` (Unix seconds). Never raises: every doubt is a check."""
    steps = Steps()
    vendor = quote.header.qe_vendor_id
    steps.run("tdx.quote.header", lambda: _hold(vendor == INTEL_QE_VENDOR, "the quoting enclave is not Intel's"))  # (1)
    platform = _verify_platform(steps, quote, collateral, anchors, now)  # (2) to (4)
    tcb_info = _verify_document(  # (5)
        steps,
        "tdx.tcb_info",
        (collateral.tcb_info, collateral.tcb_info_signature, collateral.tcb_info_chain),
        documents.parse_tcb_info,
        platform,
        now,
    )
    family = _verify_family(steps, tcb_info, platform.extension)
    qe_identity = _verify_document(  # (6)
        steps,
        "tdx.qe_identity",
        (collateral.qe_identity, collateral.qe_identity_signature, collateral.qe_identity_chain),
        documents.parse_qe_identity,
        platform,
        now,
    )
    enclave, signature = _verify_quote(steps, quote, platform, qe_identity)  # (7), (8)
    levels = _verify_levels(steps, quote, platform.extension, family, enclave, signature)  # (9)
    merged = tcb.merge(levels.values()) if levels else None
    return Genuine(
        checks=steps.checks,
        root_class=platform.anchor.value.root_class if platform.chain.holds else None,
        tcb_status=merged.status if merged else None,
        advisories=merged.advisories if merged else (),
        claims=_claims(quote, platform, tcb_info, qe_identity, signature, levels),
    )


def _verify_platform(
    steps: Steps, quote: Quote, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int
) -> _Platform:
    anchor = steps.run("tdx.anchor", lambda: _anchor_of(quote, anchors), describe=lambda found: found.name)  # (2)

    def pck_path() -> list[certificates.Certificate]:
        chain = x509.load_chain(quote.pck_chain)
        x509.check_path(chain, root=anchor.value.fingerprint, roles=(PCK_LEAF, PCK_CA), now=now)
        return chain

    chain = steps.run("tdx.pck.chain", pck_path, anchor, describe=lambda found: x509.common_name(found[1]))

    def root_list() -> certificates.CertificateRevocationList:
        crl = x509.load_crl(collateral.root_ca_crl)
        x509.check_crl(crl, issuer=chain.value[2], now=now)
        x509.check_not_revoked(chain.value[1], crl)
        return crl

    def pck_list() -> certificates.CertificateRevocationList:
        crl = x509.load_crl(collateral.pck_crl)
        leaf, authority = chain.value[:2]
        stated = x509.load_chain(collateral.pck_crl_chain)[0]
        same = stated.subject == authority.subject and x509.public_key(stated) == x509.public_key(authority)
        require(same, "the PCK CRL comes with another CA than the quote")
        x509.check_crl(crl, issuer=authority, now=now)
        x509.check_not_revoked(leaf, crl)
        return crl

    root_crl = steps.run("tdx.root.crl", root_list, chain)  # (3)
    steps.run("tdx.pck.crl", pck_list, chain)
    extension = steps.run("tdx.pck.extension", lambda: parse_extension(chain.value[0]), chain)  # (4)
    return _Platform(anchor, chain, root_crl, extension)


def _anchor_of(quote: Quote, anchors: Sequence[TrustAnchor]) -> TrustAnchor:
    """The anchor at which the quote's own chain ends; a chain that only claims to end there fails the next step."""
    candidates = [anchor for anchor in anchors if anchor.kind == KIND]
    require(candidates, "no trust anchor for TDX was given")
    root = x509.certificate_digest(x509.load_chain(quote.pck_chain)[-1])
    found = [anchor for anchor in candidates if anchor.fingerprint == root]
    require(found, f"the quote's root {root} is not among the trust anchors")
    return found[0]


def _verify_document(
    steps: Steps,
    name: str,
    signed: tuple[str, bytes, str],
    parse: Callable[[str], D],
    platform: _Platform,
    now: int,
) -> Outcome[D]:
    """The four steps of a signed document: its signer's path and role, its signature, its form, its time."""
    text, raw_signature, pem = signed

    def path() -> certificates.Certificate:
        chain = x509.load_chain(pem)
        leaf = x509.check_path(chain, root=platform.anchor.value.fingerprint, roles=(TCB_SIGNER,), now=now)
        x509.check_not_revoked(leaf, platform.root_crl.value)
        return leaf

    signer = steps.run(f"{name}.signer", path, platform.anchor, platform.root_crl)
    signature = steps.run(
        f"{name}.signature",
        lambda: _check_signature(
            x509.public_key(signer.value), raw_signature, text.encode("utf-8", "surrogatepass"), name
        ),
        signer,
    )
    content: Outcome[D] = steps.run(f"{name}.content", lambda: parse(text), signature)

    def fresh() -> D:
        document = content.value
        require(
            document.issued <= now <= document.next_update, f"issued {document.issued}, next {document.next_update}"
        )
        return document

    return steps.run(f"{name}.fresh", fresh, content, describe=lambda found: f"evaluation {found.evaluation_number}")


def _verify_family(steps: Steps, tcb_info: Outcome[TcbInfo], extension: Outcome[PckExtension]) -> Outcome[TcbInfo]:
    """TCB info that speaks of this platform's family and provisioning enclave."""

    def fmspc() -> TcbInfo:
        require(tcb_info.value.fmspc == extension.value.fmspc, f"it is of family {tcb_info.value.fmspc.hex()}")
        return tcb_info.value

    def pceid() -> TcbInfo:
        require(tcb_info.value.pceid == extension.value.pceid, f"it is of PCE {tcb_info.value.pceid.hex()}")
        return tcb_info.value

    same_family = steps.run("tdx.tcb_info.fmspc", fmspc, tcb_info, extension)
    return steps.run("tdx.tcb_info.pceid", pceid, same_family)


def _verify_quote(
    steps: Steps, quote: Quote, platform: _Platform, qe_identity: Outcome[QeIdentity]
) -> tuple[Outcome[QeIdentity], Outcome[bool]]:
    """The chain of keys: PCK signs the QE report, which holds the attestation key's hash, which signs the quote."""
    report = quote.qe_report

    def qe_signature() -> bool:
        key = x509.public_key(platform.chain.value[0])
        return _check_signature(key, quote.qe_report_signature, report.raw, "the QE report")

    def binding() -> bool:
        expected = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
        return _hold(report.reportdata == expected, "the QE report is about another attestation key")

    def identity() -> QeIdentity:
        tcb.check_qe_identity(qe_identity.value, report)
        return qe_identity.value

    def quote_signature() -> bool:
        return _check_signature(_point(quote.attestation_key), quote.signature, quote.signed, "the quote")

    signed = steps.run("tdx.qe.signature", qe_signature, platform.chain)
    bound = steps.run("tdx.qe.binding", binding, signed)
    enclave = steps.run("tdx.qe.identity", identity, signed, qe_identity)
    return enclave, steps.run("tdx.quote.signature", quote_signature, bound)


def _verify_levels(
    steps: Steps,
    quote: Quote,
    extension: Outcome[PckExtension],
    tcb_info: Outcome[TcbInfo],
    enclave: Outcome[QeIdentity],
    signature: Outcome[bool],
) -> dict[str, Level]:
    """The levels of platform, module (not of the first generation) and quoting enclave; empty unless all were found."""
    platform = steps.run(
        "tdx.tcb.platform",
        lambda: tcb.platform_level(tcb_info.value, extension.value, quote.body),
        tcb_info,
        signature,
        describe=lambda level: level.status,
    )
    module = steps.run(
        "tdx.tcb.module",
        lambda: (tcb.module_level(tcb_info.value, quote.body),),
        tcb_info,
        signature,
        describe=lambda found: found[0].status if found[0] else "judged with the platform",
    )
    qe = steps.run(
        "tdx.tcb.qe",
        lambda: tcb.qe_level(enclave.value, quote.qe_report),
        enclave,
        describe=lambda level: level.status,
    )
    if not (platform.holds and module.holds and qe.holds):
        return {}
    levels = {"platform": platform.value, "module": module.value[0], "qe": qe.value}
    return {name: level for name, level in levels.items() if level is not None}


def _claims(
    quote: Quote,
    platform: _Platform,
    tcb_info: Outcome[TcbInfo],
    qe_identity: Outcome[QeIdentity],
    signature: Outcome[bool],
    levels: Mapping[str, Level],
) -> dict[str, str | int]:
    claims: dict[str, str | int] = {}
    if signature.holds:
        claims |= _measurements(quote)
    if platform.extension.holds:
        pck = platform.extension.value
        claims |= {"fmspc": pck.fmspc.hex(), "pceid": pck.pceid.hex(), "ppid": pck.ppid.hex(), "pcesvn": pck.pcesvn}
        claims["piid"] = pck.platform_instance_id.hex() if pck.platform_instance_id else ""
    if tcb_info.holds and qe_identity.holds:  # a floor on the number must hold for both documents
        numbers = tcb_info.value.evaluation_number, qe_identity.value.evaluation_number
        claims["tcb_evaluation_number"] = min(numbers)
    if levels:
        claims |= {f"tcb_status_{name}": level.status for name, level in levels.items()}
        claims["tcb_date"] = tcb.merge(levels.values()).date
    return claims


def _measurements(quote: Quote) -> dict[str, str | int]:
    report = quote.body
    return {
        "quote_version": quote.header.version,
        "mrtd": report.mrtd.hex(),
        "rtmr0": report.rtmr0.hex(),
        "rtmr1": report.rtmr1.hex(),
        "rtmr2": report.rtmr2.hex(),
        "rtmr3": report.rtmr3.hex(),
        "mrconfigid": report.mrconfigid.hex(),
        "mrowner": report.mrowner.hex(),
        "mrownerconfig": report.mrownerconfig.hex(),
        "mrseam": report.mrseam.hex(),
        "mrsignerseam": report.mrsignerseam.hex(),
        "seam_attributes": report.seamattributes.hex(),
        "td_attributes": report.tdattributes.hex(),
        "xfam": report.xfam.hex(),
        "mr_service_td": report.mrservicetd.hex() if report.mrservicetd else "",
        "tee_tcb_svn": report.tee_tcb_svn.hex(),
        "tee_tcb_svn2": report.tee_tcb_svn2.hex() if report.tee_tcb_svn2 else "",
        "report_data": report.reportdata.hex(),
    }


def _hold(condition: object, reason: str) -> bool:
    require(condition, reason)
    return True


def _check_signature(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, what: str) -> bool:
    """Whether the 64 bytes r and s (big-endian) are a signature over `data` (ECDSA P-256, SHA-256). Raises `Doubt`."""
    require(len(signature) == P256_SIGNATURE_BYTES, f"the signature of {what} has {len(signature)} bytes")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Doubt(f"the signature of {what} does not hold") from None
    return True


def _point(raw: bytes) -> ec.EllipticCurvePublicKey:
    """A P-256 key from its two coordinates (64 bytes). Raises `Doubt`."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
    except ValueError:
        raise Doubt("the attestation key is not a point of P-256") from None
