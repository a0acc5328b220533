"""Trust anchors: the roots that evidence is verified up to, and who can hold them.

Knows: the vendors' pins, with their source; how an installation's own root becomes an anchor. Does not know: formats
of evidence. An anchor's class alone makes the level, so a root given by an operator is of class `installation`
whatever it contains, unless it *is* a vendor's root, which its fingerprint alone decides. Not covered yet: roots of
Arm, NVIDIA and Azure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
# The same root stands above the platforms of both kinds.
INTEL_SGX_ROOT_FOR_SGX = replace(INTEL_SGX_ROOT, kind="sgx")

# Source: https://kdsintf.amd.com/vcek/v1/{Milan,Genoa,Turin}/cert_chain (publication 57230, section AMD root key). Valid
# until 2045-10-22, 2047-01-26 and 2048-05-15; the same roots stand above VCEK and VLEK.
AMD_ROOTS = tuple(
    TrustAnchor("snp", Digest(f"sha256:{fingerprint}"), RootClass.SILICON, f"AMD ARK-{product}")
    for product, fingerprint in (
        ("Milan", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
        ("Genoa", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
        ("Turin", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
    )
)

# Source: https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip ("Verifying the root of trust" in the
# Nitro Enclaves user guide): serial f93175681b90afe11d46ccb4e4e7f856, valid from 2019-10-28 to 2049-10-28.
AWS_NITRO_ROOT = TrustAnchor(
    kind="nitro",
    fingerprint=Digest("sha256:641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"),
    root_class=RootClass.CLOUD,
    name="AWS Nitro Enclaves Root G1",
)

# TPMs. Who can hold Google's roots is a cloud; the others are makers of chips. Each fingerprint was computed from the
# certificate itself, whose own signature holds; the certificates came from copies in public repositories, not from the makers'
# sites, which are named so that anybody can compare. Google: https://pki.goog/cloud_integrity/tpm_ek_root_1.crt (until 2118)
# and the root above its Certificate Authority Service (until 2122). Infineon: http://pki.infineon.com/OptigaRsaRootCA and
# OptigaEccRootCA (until 2043). Intel: EKRootPublicKey at upgrades.intel.com (until 2049). GlobalSign stands above
# STMicroelectronics (until 2049). AMD: https://ftpm.amd.com/pki/aia (RSA until 2039, ECC until 2041, which exists in two
# spellings of the same names).
TPM_ROOTS = tuple(
    TrustAnchor("tpm", Digest(f"sha256:{fingerprint}"), root_class, name)
    for name, root_class, fingerprint in (
        (
            "Google tpm_ek_v1_cloud_host_root",
            RootClass.CLOUD,
            "9bd5285f8fb18502a7947e621ffd470266f49fcd3b73e19a190f690ad32a7caf",
        ),
        (
            "Google EK/AK CA Root",
            RootClass.CLOUD,
            "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2",
        ),
        (
            "Infineon OPTIGA RSA Root CA",
            RootClass.SILICON,
            "899e35474c9807eb4c7f2f7a12da0028fb250cd02154d0009fca7d9c66574f3b",
        ),
        (
            "Infineon OPTIGA ECC Root CA",
            RootClass.SILICON,
            "cfeb02fecd55ad7a73c6e1d11985d4c47dee248ab63dcb66091a2489660443c3",
        ),
        ("Intel TPM EK root", RootClass.SILICON, "2e1b3ba79af56d758be51697621bc4b9e8cee0983db3e749c55eb9b37c6d2ae0"),
        (
            "GlobalSign Trusted Platform Module Root CA",
            RootClass.SILICON,
            "f27bf02c6e00c73d915eeb6a6a2f5fbf0c31ae0393149e6b5c31e41b113841c3",
        ),
        ("AMDTPM (RSA)", RootClass.SILICON, "b73f14dea3bdaa0be87440de3fc718c771f2cbf8b7b2231c6ea228d3b20860ef"),
        ("AMDTPM (ECC)", RootClass.SILICON, "c2cb57bf723c174f166c5aa1dc64160981054bee18c70eb1debfc1518afa92d2"),
        ("AMDTPM (ECC, UTF-8)", RootClass.SILICON, "14aac9fd58471a612afd75d8c0955daf99f091b1863702f9e0d4113faf234f9d"),
    )
)

VENDOR_ANCHORS: tuple[TrustAnchor, ...] = (
    INTEL_SGX_ROOT,
    INTEL_SGX_ROOT_FOR_SGX,
    *AMD_ROOTS,
    AWS_NITRO_ROOT,
    *TPM_ROOTS,
)


CERTIFIED_KINDS = ("tdx", "sgx", "snp", "tpm", "nitro")
"""The kinds whose roots are certificates; a CCA platform is endorsed by a bare key."""


def installation_anchor(kind: str, pem: str | bytes) -> TrustAnchor:
    """The anchor of an installation's own root, given as one PEM certificate. Raises `MalformedEvidence`."""
    (root,) = x509.load_chain(pem, limit=1)
    fingerprint = x509.certificate_digest(root)
    for anchor in VENDOR_ANCHORS:
        if (anchor.kind, anchor.fingerprint) == (kind, fingerprint):
            return anchor
    return TrustAnchor(kind, fingerprint, RootClass.INSTALLATION, f"installation root {fingerprint}")
