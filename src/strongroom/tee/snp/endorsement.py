"""AMD's certificate path above a report: ARK, ASK or ASVK, VCEK or VLEK, and the ARK's revocation list.

Knows: what AMD's certificates look like, who stands where (publication 57230), and which paths and lists were verified
before: those are kept, a few, and are taken again only while the time lies inside every validity among them. Does not
know: reports. AMD revokes what stands between root and leaf, so only that is looked up. A path is kept by the bytes
it was made of and the root it was verified up to, so nothing else can profit from it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.crypto import x509
from strongroom.crypto.schemes import Scheme
from strongroom.crypto.x509 import Hierarchy
from strongroom.errors import MalformedEvidence
from strongroom.records.digest import Digest
from strongroom.records.evidence import AmdCollateral
from strongroom.tee.snp.leaf import Leaf, parse_leaf
from strongroom.tee.snp.products import PRODUCTS

T = TypeVar("T")

AMD = Hierarchy(frozenset({Scheme.RSA_PSS_SHA384}), leaf_curve=ec.SECP384R1, leaf_usage=False)
VCEK_NAME, VLEK_NAME = "SEV-VCEK", "SEV-VLEK"
ISSUER_PREFIX = {VCEK_NAME: "SEV-", VLEK_NAME: "SEV-VLEK-"}
"""Common name of a leaf -> what stands before the product in the name of its issuer (ASK or ASVK)."""
ROOT_PREFIX = "ARK-"
MAX_LEAF_BYTES = 8 * 1024
KEPT = 64


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


class Verified(Generic[T]):
    """What was verified, by what it was made of, each with the time in which it holds. Bounded, and safe for threads."""

    def __init__(self, size: int = KEPT) -> None:
        self._size = size
        self._found: OrderedDict[Hashable, tuple[T, int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, now: int) -> T | None:
        """What is kept under `key` if it holds at `now` (Unix seconds), else None."""
        with self._lock:
            kept = self._found.get(key)
            if kept is None or not kept[1] <= now <= kept[2]:
                return None
            self._found.move_to_end(key)
            return kept[0]

    def put(self, key: Hashable, value: T, since: int, until: int) -> None:
        """Keep `value`, which holds from `since` to `until`, and let go of the one unused for longest."""
        with self._lock:
            self._found[key] = (value, since, until)
            self._found.move_to_end(key)
            while len(self._found) > self._size:
                self._found.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._found.clear()


PATHS: Verified[Endorsement] = Verified()
LISTS: Verified[bool] = Verified()


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
    PATHS.put(key, found, *_window(path))
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
    if parsed.next_update_utc is not None:  # `check_crl` refused the list otherwise
        since, until = parsed.last_update_utc.timestamp(), parsed.next_update_utc.timestamp()
        LISTS.put(key, value=True, since=int(since), until=int(until))
    return True


@lru_cache(maxsize=KEPT)
def leaf_of(certificate: certificates.Certificate) -> Leaf:
    """AMD's extensions of a leaf. Raises `MalformedEvidence`."""
    return parse_leaf(certificate)


def _window(path: Sequence[certificates.Certificate]) -> tuple[int, int]:
    """The time in which all of `path` is valid, in Unix seconds; X.509 counts in whole ones."""
    return (
        max(int(certificate.not_valid_before_utc.timestamp()) for certificate in path),
        min(int(certificate.not_valid_after_utc.timestamp()) for certificate in path),
    )
