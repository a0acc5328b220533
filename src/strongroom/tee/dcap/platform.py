"""The platform beneath a quote: its anchor, the path of its PCK certificate, revocation, and what Intel certified of it.

Knows: who may stand where in Intel's hierarchy (Intel SGX PCK Certificate and CRL Profile). Does not know: kinds of
quotes, collateral that Intel signs as JSON (`signed`). Revocation is never optional; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509 as certificates

from strongroom.crypto import x509
from strongroom.records.digest import Digest
from strongroom.records.evidence import IntelCollateral
from strongroom.tee import cache
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.dcap.pck import PckExtension, parse_extension
from strongroom.tee.steps import Doubt, Outcome, Steps, require

PCK_LEAF = {"Intel SGX PCK Certificate"}
PCK_CA = {"Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"}

_CRLS: cache.Verified[certificates.CertificateRevocationList] = cache.Verified()


@dataclass(frozen=True, slots=True)
class Platform:
    """What the steps about the platform hand on; the chain is leaf, CA, root. `root_ca_crl` is the CRL as it came."""

    root_ca_crl: bytes
    anchor: Outcome[TrustAnchor]
    chain: Outcome[list[certificates.Certificate]]
    root_crl: Outcome[certificates.CertificateRevocationList]
    pck_crl: Outcome[certificates.CertificateRevocationList]
    extension: Outcome[PckExtension]

    @property
    def window(self) -> cache.Window:
        """When all of it holds, once every step passed."""
        lists = cache.of_crl(self.root_crl.value).within(cache.of_crl(self.pck_crl.value))
        return cache.of_certificates(self.chain.value).within(lists)


def anchor_of(kind: str, root: Digest, anchors: Sequence[TrustAnchor]) -> TrustAnchor:
    """The anchor that is the root of the platform's own chain. Raises `Doubt`.

    A chain that only claims to end there fails the next step.
    """
    for anchor in anchors:
        if anchor.fingerprint == root and anchor.kind == kind:
            return anchor
    require(any(anchor.kind == kind for anchor in anchors), f"no trust anchor for {kind.upper()} was given")
    raise Doubt(f"the quote's root {root} is not among the trust anchors")


def verify_platform(
    steps: Steps,
    prefix: str,
    parsed: list[certificates.Certificate],
    collateral: IntelCollateral,
    given: Outcome[bool],
    anchor: Outcome[TrustAnchor],
    now: int,
) -> Platform:
    """The steps from the PCK path to the PCK extension; `parsed` is the platform's chain as it was written."""

    def path() -> list[certificates.Certificate]:
        x509.check_path(parsed, root=anchor.value.fingerprint, roles=(PCK_LEAF, PCK_CA), now=now)
        return parsed

    chain = steps.run(f"{prefix}.pck.chain", path, anchor, describe=lambda found: x509.common_name(found[1]))

    def root_list() -> certificates.CertificateRevocationList:
        _, authority, root = chain.value
        crl = _verified_crl(collateral.root_ca_crl, root, now)
        x509.check_not_revoked(authority, crl, issuer=root)
        return crl

    def pck_list() -> certificates.CertificateRevocationList:
        leaf, authority = chain.value[:2]
        stated = x509.load_chain(collateral.pck_crl_chain)[0]
        same = stated is authority or _same_authority(stated, authority)
        require(same, "the PCK CRL comes with another CA than the platform's")
        crl = _verified_crl(collateral.pck_crl, authority, now)
        x509.check_not_revoked(leaf, crl, issuer=authority)
        return crl

    root_crl = steps.run(f"{prefix}.root.crl", root_list, given, chain)
    pck_crl = steps.run(f"{prefix}.pck.crl", pck_list, given, chain)
    extension = steps.run(f"{prefix}.pck.extension", lambda: parse_extension(chain.value[0]), chain)
    return Platform(collateral.root_ca_crl, anchor, chain, root_crl, pck_crl, extension)


def _same_authority(one: certificates.Certificate, other: certificates.Certificate) -> bool:
    return one.subject == other.subject and x509.public_key(one) == x509.public_key(other)


def _verified_crl(der: bytes, issuer: certificates.Certificate, now: int) -> certificates.CertificateRevocationList:
    """The CRL that `issuer`, whose path was verified, signed and that holds now. Raises a `StrongroomError`."""
    key = (issuer.tbs_certificate_bytes, der)
    found = _CRLS.get(key, now)
    if found is None:
        found = x509.load_crl(der)
        x509.check_crl(found, issuer=issuer, now=now, der=der)
        _CRLS.put(key, found, cache.of_crl(found))
    return found


def forget() -> None:
    """Forget all verified CRLs."""
    _CRLS.clear()
