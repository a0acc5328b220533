"""Trust anchors: the roots that evidence is verified up to, and who can hold them.

Knows: the vendors' pins, with their source; how an installation's own root becomes an anchor. Does not know: formats
of evidence. An anchor's class alone makes the level, so a root given by an operator is of class `installation`
whatever it contains, unless it *is* a vendor's root, which its fingerprint alone decides. Not covered yet: roots of
AMD, Arm, NVIDIA, AWS, Azure, Google and TPMs.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.crypto import x509
from strongroom.records.digest import Digest
from strongroom.records.verdict import RootClass


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A root for evidence of one `kind`: `fingerprint` is the SHA-256 of the whole root certificate in DER."""

    kind: str
    fingerprint: Digest
    root_class: RootClass
    name: str


# Source: https://certificates.trustedservices.intel.com/IntelSGXRootCA.der (Intel SGX PCK Certificate and CRL Profile
# Specification, section Root CA): serial 22650cd65a9d3489f383b49552bf501b392706ac, valid from 2018-05-21 to 2049-12-31.
INTEL_SGX_ROOT = TrustAnchor(
    kind="tdx",
    fingerprint=Digest("sha256:44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"),
    root_class=RootClass.SILICON,
    name="Intel SGX Root CA",
)

VENDOR_ANCHORS: tuple[TrustAnchor, ...] = (INTEL_SGX_ROOT,)


def installation_anchor(kind: str, pem: str | bytes) -> TrustAnchor:
    """The anchor of an installation's own root, given as one PEM certificate. Raises `MalformedEvidence`."""
    (root,) = x509.load_chain(pem, limit=1)
    fingerprint = x509.certificate_digest(root)
    for anchor in VENDOR_ANCHORS:
        if (anchor.kind, anchor.fingerprint) == (kind, fingerprint):
            return anchor
    return TrustAnchor(kind, fingerprint, RootClass.INSTALLATION, f"installation root {fingerprint}")
