"""Is it genuine? The ordered verification that TDX and SGX share, offline, at a given time, under given anchors.

Knows: the steps (Intel TDX DCAP Quoting Library API; Intel SGX ECDSA QuoteGen Reference; PCS API; Intel SGX PCK
Certificate and CRL Profile) and what each needs of those before it. Does not know: bodies of quotes, TCB levels of a
kind (each kind's `verify`), what anyone wants (`appraisal`), where collateral comes from, what time it is.

    (1) collateral, header   (2) anchor and PCK path      (3) CRLs                  (4) PCK extension
    (5) TCB info             (6) QE identity              (7) QE report             (8) quote signature
    (9) quoting enclave      (10) TCB levels

Steps (1) to (6) are about platform and collateral alone. Where all of them passed they are remembered, for exactly these
bytes and as long as every validity window holds (`cache`). Step (7) is the last link of the path, from the PCK to the
attestation key, which a quoting enclave keeps as long as it is not updated: it is remembered with them. The quote's own
signature (8) is checked for every quote. Revocation and freshness are never optional; collateral must hang from the same
anchor as the platform; nothing is fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.crypto import x509
from strongroom.records.digest import Digest
from strongroom.records.evidence import IntelCollateral
from strongroom.records.verdict import Check, all_passed
from strongroom.tee import cache
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.dcap import documents, levels, platform, signatures, signed
from strongroom.tee.dcap.documents import Level, QeIdentity, TcbInfo
from strongroom.tee.dcap.pck import PckExtension
from strongroom.tee.dcap.quote import REPORT_DATA_AT, DcapQuote, EnclaveReport
from strongroom.tee.dcap.signed import Signed
from strongroom.tee.genuine import Genuine
from strongroom.tee.steps import Outcome, Steps, require

INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
NO_COLLATERAL = IntelCollateral("", b"", "", "", b"", "", b"", b"", "")


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between kinds here: the prefix of their checks, and which documents of Intel's are theirs."""

    kind: str
    tcb_info: str
    quoting_enclave: str


@dataclass(frozen=True, slots=True)
class Vouched:
    """What steps (1) to (6) found, and their checks but for the anchor's. `family` is TCB info that speaks of this very platform.

    `standings` remembers TCB levels that were found by these documents, `attestation_keys` what was found of QE reports that
    this platform's PCK signed, for exactly these bytes.
    """

    root: Digest | None
    key: Outcome[ec.EllipticCurvePublicKey]
    extension: Outcome[PckExtension]
    family: Outcome[TcbInfo]
    qe_identity: Outcome[QeIdentity]
    claims: Mapping[str, str | int]
    checks: tuple[Check, ...]
    standings: cache.Verified[tuple[levels.Standing, tuple[Check, ...]]]
    attestation_keys: cache.Verified[tuple[Outcome[bool], Outcome[bool]]]


@dataclass(slots=True)
class Found:
    """What the steps found: `certified` is the PCK's signature on the QE report, `signature` the quote's own."""

    steps: Steps
    kind: str
    report: EnclaveReport
    anchor: Outcome[TrustAnchor]
    vouched: Vouched
    certified: Outcome[bool]
    signature: Outcome[bool]

    def rate(
        self, decisive: Hashable, rate: Callable[[Steps, Outcome[Level]], levels.Standing | None]
    ) -> levels.Standing | None:
        """Steps (9) and (10): the quoting enclave's identity and level, then whatever `rate` finds on top of it.

        `decisive` is all in the quote's body that the standing depends on. Under the same documents the same bytes stand
        alike at any time, so what was found once is remembered.
        """
        standings = self.vouched.standings
        place = (decisive, self.report.raw[:REPORT_DATA_AT])
        known = standings.get(place, 0) if self.signature.holds else None
        if known is not None:
            self.steps.adopt(known[1])
            return known[0]
        steps, report, stated = Steps(), self.report, self.vouched.qe_identity

        def identity() -> QeIdentity:
            levels.check_qe_identity(stated.value, report)
            return stated.value

        enclave = steps.run(f"{self.kind}.qe.identity", identity, self.certified, stated)
        qe = steps.run(
            f"{self.kind}.tcb.qe",
            lambda: levels.qe_level(enclave.value, report),
            enclave,
            describe=lambda level: level.status,
        )
        standing = rate(steps, qe)
        checks = steps.checks
        self.steps.adopt(checks)
        if standing is not None and all_passed(checks):
            standings.put(place, (standing, checks), cache.ALWAYS)
        return standing

    def genuine(self, standing: levels.Standing | None, said: Callable[[], dict[str, str | int]]) -> Genuine:
        """All of it together; what the quote says (`said`) is claimed only if its signature holds."""
        claims = said() if self.signature.holds else {}
        claims |= self.vouched.claims
        if standing is not None:
            claims |= standing.claims
        return Genuine(
            kind=self.kind,
            checks=self.steps.checks,
            root_class=self.anchor.value.root_class if self.vouched.key.holds else None,
            tcb_status=standing.merged.status if standing else None,
            advisories=standing.merged.advisories if standing else (),
            claims=claims,
        )


_VOUCHED: cache.Verified[Vouched] = cache.Verified()


def verify(
    family: Family, quote: DcapQuote[Any], collateral: IntelCollateral | None, anchors: Sequence[TrustAnchor], now: int
) -> Found:
    """Steps (1) to (8) for `quote` with `collateral` under `anchors` at `now` (Unix seconds). Never raises."""
    steps, kind = Steps(), family.kind
    stated = collateral or NO_COLLATERAL
    chain = quote.pck_chain or stated.pck_chain
    place = (kind, quote.header.qe_vendor_id, chain, stated)
    known = _VOUCHED.get(place, now)
    if known is not None and known.root is not None:
        root = known.root
        anchor = steps.run(
            f"{kind}.anchor", lambda: platform.anchor_of(kind, root, anchors), describe=lambda found: found.name
        )
        known = known if anchor.holds else None
    if known is None:
        steps = Steps()
        known, anchor, window = _vouch(steps, family, quote, collateral, anchors, now)
        if window is not None:
            _VOUCHED.put(place, known, window)
    steps.adopt(known.checks)
    certified, signature = _verify_quote(steps, kind, quote, known)
    return Found(steps, kind, quote.qe_report, anchor, known, certified, signature)


def forget() -> None:
    """Forget everything that was verified, so that the next quote is verified as if it were the first."""
    _VOUCHED.clear()
    platform.forget()
    signed.forget()


def _vouch(
    steps: Steps,
    family: Family,
    quote: DcapQuote[Any],
    given_collateral: IntelCollateral | None,
    anchors: Sequence[TrustAnchor],
    now: int,
) -> tuple[Vouched, Outcome[TrustAnchor], cache.Window | None]:
    """Steps (1) to (6), and when all of it holds; None if a step did not pass. The anchor's check goes to `steps`."""
    mine, kind = Steps(), family.kind
    collateral = given_collateral or NO_COLLATERAL
    chain = quote.pck_chain or collateral.pck_chain
    vendor = quote.header.qe_vendor_id
    parsed: list[certificates.Certificate] = []

    def find_anchor() -> TrustAnchor:
        require(chain, "neither quote nor collateral brings the PCK chain of the platform")
        parsed.extend(x509.load_chain(chain))
        return platform.anchor_of(kind, x509.certificate_digest(parsed[-1]), anchors)

    given = mine.run(f"{kind}.collateral", lambda: _hold(given_collateral is not None, "no collateral was given"))
    mine.run(f"{kind}.quote.header", lambda: _hold(vendor == INTEL_QE_VENDOR, "the quoting enclave is not Intel's"))
    needs = () if quote.pck_chain else (given,)
    anchor = steps.run(f"{kind}.anchor", find_anchor, *needs, describe=lambda found: found.name)
    found = platform.verify_platform(mine, kind, parsed, collateral, given, anchor, now)
    tcb_info = Signed(
        f"{kind}.tcb_info",
        collateral.tcb_info,
        collateral.tcb_info_signature,
        collateral.tcb_info_chain,
        partial(documents.parse_tcb_info, kind=family.tcb_info),
    )
    info = signed.verify_document(mine, tcb_info, given, found, now)
    same = signed.verify_family(mine, kind, info.outcome, found.extension)
    qe_identity = Signed(
        f"{kind}.qe_identity",
        collateral.qe_identity,
        collateral.qe_identity_signature,
        collateral.qe_identity_chain,
        partial(documents.parse_qe_identity, enclave=family.quoting_enclave),
    )
    identity = signed.verify_document(mine, qe_identity, given, found, now)
    checks = mine.checks
    vouched = Vouched(
        root=anchor.value.fingerprint if anchor.holds else None,
        key=Outcome(found.chain.check, x509.public_key(found.chain.value[0]) if found.chain.holds else None),
        extension=found.extension,
        family=same,
        qe_identity=identity.outcome,
        claims=_claims(found.extension, info.outcome, identity.outcome),
        checks=checks,
        standings=cache.Verified(),
        attestation_keys=cache.Verified(),
    )
    if not (anchor.holds and all_passed(checks)):
        return vouched, anchor, None
    return vouched, anchor, found.window.within(info.window).within(identity.window)


def _verify_quote(
    steps: Steps, kind: str, quote: DcapQuote[Any], vouched: Vouched
) -> tuple[Outcome[bool], Outcome[bool]]:
    """The chain of keys: PCK signs the QE report, which holds the attestation key's hash, which signs the quote."""
    report = quote.qe_report

    def qe_signature() -> bool:
        return signatures.check(vouched.key.value, quote.qe_report_signature, report.raw, "the QE report")

    def binding() -> bool:
        expected = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
        return _hold(report.reportdata == expected, "the QE report is about another attestation key")

    def quote_signature() -> bool:
        return signatures.check(signatures.point(quote.attestation_key), quote.signature, quote.signed, "the quote")

    place = (report.raw, quote.qe_report_signature, quote.attestation_key, quote.qe_auth_data)
    known = vouched.attestation_keys.get(place, 0)
    if known is None:
        certified = steps.run(f"{kind}.qe.signature", qe_signature, vouched.key)
        bound = steps.run(f"{kind}.qe.binding", binding, certified)
        if bound.holds:
            vouched.attestation_keys.put(place, (certified, bound), cache.ALWAYS)
    else:
        certified, bound = known
        steps.adopt((certified.check, bound.check))
    return certified, steps.run(f"{kind}.quote.signature", quote_signature, bound)


def _claims(
    extension: Outcome[PckExtension], tcb_info: Outcome[TcbInfo], qe_identity: Outcome[QeIdentity]
) -> dict[str, str | int]:
    """What Intel certified of the platform and says in its documents, as far as it was verified."""
    claims: dict[str, str | int] = {}
    if extension.holds:
        pck = extension.value
        claims = {
            "fmspc": pck.fmspc.hex(),
            "pceid": pck.pceid.hex(),
            "ppid": pck.ppid.hex(),
            "piid": pck.platform_instance_id.hex() if pck.platform_instance_id else "",
            "pcesvn": pck.pcesvn,
            "sgx_type": pck.sgx_type,
            "dynamic_platform": _truth(pck.dynamic_platform),
            "cached_keys": _truth(pck.cached_keys),
            "smt": _truth(pck.smt_enabled),
        }
    if tcb_info.holds and qe_identity.holds:  # a floor must hold for both documents
        claims["tcb_evaluation_number"] = min(tcb_info.value.evaluation_number, qe_identity.value.evaluation_number)
    return claims


def _truth(value: bool | None) -> str:  # noqa: FBT001 (what Intel states, or not)
    """A bit as policies write it, or nothing where Intel does not state it."""
    return "" if value is None else str(int(value))


def _hold(condition: object, reason: str) -> bool:
    require(condition, reason)
    return True
