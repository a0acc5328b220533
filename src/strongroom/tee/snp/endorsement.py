"""AMD's certificate path above a report: ARK, ASK or ASVK, VCEK or VLEK, and the ARK's revocation list.

Knows: what AMD's certificates look like, who stands where (publication 57230), and which paths and lists were verified
before: those are kept, a few, and are taken again only while the time lies inside every validity among them. Does not
know: reports. AMD revokes what stands between root and leaf, so only that is looked up. A path is kept by the bytes
it was made of and the root it was verified up to, so nothing else can profit from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.crypto import x509
from strongroom.crypto.schemes import Scheme
from strongroom.crypto.x509 import Hierarchy
from strongroom.errors import MalformedEvidence
from strongroom.records.digest import Digest
from strongroom.records.evidence import AmdCollateral
from strongroom.tee import cache
from strongroom.tee.snp.leaf import Leaf, parse_leaf
from strongroom.tee.snp.products import PRODUCTS

AMD = Hierarchy(frozenset({Scheme.RSA_PSS_SHA384}), leaf_curve=ec.SECP384R1, leaf_usage=False)
VCEK_NAME, VLEK_NAME = "SEV-VCEK", "SEV-VLEK"
ISSUER_PREFIX = {VCEK_NAME: "SEV-", VLEK_NAME: "SEV-VLEK-"}
"""Common name of a leaf -> what stands before the product in the name of its issuer (ASK or ASVK)."""
ROOT_PREFIX = "ARK-"
MAX_LEAF_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class Authorities:
    """The two certificates above a leaf, not verified; the digests of the root and of the text they were read from."""

    issuer: certificates.Certificate
    root: certificates.Certificate
    fingerprint: Digest
    digest: bytes


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A verified path: the leaf's common name, its key, and the certificates above it."""

    name: str
    key: ec.EllipticCurvePublicKey
    certificate: certificates.Certificate
    authorities: Authorities


PATHS: cache.Verified[Endorsement] = cache.Verified()
LISTS: cache.Verified[bool] = cache.Verified()


def authorities(chain: str) -> Authorities:
    """ASK or ASVK, and ARK, from PEM in this order. Raises `MalformedEvidence`.

    AMD's service writes some chains with CR LF at the end of every line, and others with LF; a mixture is refused.
    """
    if "\r" in chain:
        ends = chain.count("\r\n")
        if not ends == chain.count("\r") == chain.count("\n"):
            raise MalformedEvidence("the lines of a certificate chain end in different ways")
        chain = chain.replace("\r\n", "\n")
    return _authorities(chain)


@lru_cache(maxsize=16)
def _authorities(chain: str) -> Authorities:
    found = x509.load_chain(chain, limit=2)
    if len(found) != 2:  # noqa: PLR2004 (ASK or ASVK, and ARK)
        raise MalformedEvidence("a chain of AMD's has two certificates: ASK or ASVK, and ARK")
    issuer, root = found
    return Authorities(issuer, root, x509.certificate_digest(root), hashlib.sha256(chain.encode("ascii")).digest())


def verify_path(collateral: AmdCollateral, root: Digest, now: int) -> Endorsement:
    """The leaf's path up to the pinned `root` at `now`. Raises `MalformedEvidence` or `SignatureInvalid`."""
    if len(collateral.leaf) > MAX_LEAF_BYTES:
        raise MalformedEvidence(f"a certificate of {len(collateral.leaf)} bytes exceeds the limit of {MAX_LEAF_BYTES}")
    above = authorities(collateral.chain)
    key = (above.digest, hashlib.sha256(collateral.leaf).digest(), root)
    kept = PATHS.get(key, now)
    if kept is not None:
        return kept
    leaf = x509.load_certificate(collateral.leaf)
    name = x509.common_name(leaf)
    prefix = ISSUER_PREFIX.get(name)
    if prefix is None:
        raise MalformedEvidence("the leaf is neither a VCEK nor a VLEK")
    path = [leaf, above.issuer, above.root]
    issuers = {prefix + product for product in PRODUCTS}
    x509.check_path(path, root=root, roles=({name}, issuers), now=now, hierarchy=AMD)
    found = Endorsement(name, x509.ec_key(leaf, ec.SECP384R1), leaf, above)
    PATHS.put(key, found, cache.of_certificates(path))
    return found


def verify_list(crl: bytes, above: Authorities, now: int) -> bool:
    """That the root signed `crl`, that it holds at `now`, and that the issuer of the leaf is not listed.

    Raises `MalformedEvidence` or `SignatureInvalid`.
    """
    key = (hashlib.sha256(crl).digest(), above.digest)
    if LISTS.get(key, now):
        return True
    parsed = x509.load_crl(crl)
    x509.check_crl(parsed, issuer=above.root, now=now, hierarchy=AMD)
    x509.check_not_revoked(above.issuer, parsed)
    LISTS.put(key, value=True, window=cache.of_crl(parsed))
    return True


@lru_cache(maxsize=cache.MAX_ENTRIES)
def leaf_of(certificate: certificates.Certificate) -> Leaf:
    """AMD's extensions of a leaf. Raises `MalformedEvidence`."""
    return parse_leaf(certificate)
