"""What breaks a quote of TDX and one of SGX in the same way: for each step that both have, what fails that step alone.

Knows: platform, collateral, the chain of keys. Does not know: bodies (`tdx`, `sgx`), which hand in how to make a quote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from strongroom.crypto import signatures
from strongroom.records.evidence import IntelCollateral
from strongroom_sim import tcb
from strongroom_sim.ca import COLLATERAL_LIFE, Installation, sign_raw
from strongroom_sim.quoting import QuotingEnclave

YEAR = 366 * 86_400
SIGNED_BYTES = {"tdx": 48 + 584, "sgx": 48 + 384}
"""Header and body of the quotes that are broken here."""
_OLD = "2001-01-01T00:00:00Z"


class Broken(NamedTuple):
    """A quote, the collateral that comes with it, and the time at which it is judged."""

    quote: bytes
    collateral: IntelCollateral | None
    now: int


class Maker(NamedTuple):
    """How a kind makes quotes of one installation, and with another quoting enclave or vendor."""

    kind: str
    product: int
    quote: Callable[[Installation], bytes]
    with_enclave: Callable[[Installation, QuotingEnclave], bytes]
    with_vendor: Callable[[Installation, bytes], bytes]


def broken(maker: Maker, installation: Installation, now: int) -> dict[str, Broken]:
    """Check -> what fails exactly this check under the root of `installation`."""
    good, collateral = maker.quote(installation), installation.collateral(now, kind=maker.kind)
    found = {
        "collateral": Broken(good, None, now),
        "quote.header": Broken(maker.with_vendor(installation, bytes(16)), collateral, now),
        "anchor": Broken(maker.quote(Installation.ephemeral(now)), collateral, now),
        **_platform(maker, installation, collateral, now),
        **_documents(installation, good, collateral, now),
        **_keys(maker, installation, good, collateral, now),
    }
    return {f"{maker.kind}.{name}": case for name, case in found.items()}


def _platform(maker: Maker, place: Installation, collateral: IntelCollateral, now: int) -> dict[str, Broken]:
    ended = place.reissued("pck", now - 11 * YEAR)
    bare = place.reissued("pck", now, bare=True)
    stale = place.crl("root", issued=now - YEAR, until=now - 1)
    revoked = place.crl("platform-ca", ("pck",), issued=now - 1, until=now + COLLATERAL_LIFE)
    good = maker.quote(place)
    return {
        "pck.chain": Broken(maker.quote(ended), collateral, now),
        "root.crl": Broken(good, replace(collateral, root_ca_crl=stale), now),
        "pck.crl": Broken(good, replace(collateral, pck_crl=revoked), now),
        "pck.extension": Broken(maker.quote(bare), collateral, now),
    }


def _documents(place: Installation, good: bytes, collateral: IntelCollateral, now: int) -> dict[str, Broken]:
    found: dict[str, Broken] = {}
    for name in ("tcb_info", "qe_identity"):
        text, signature = getattr(collateral, name), bytearray(getattr(collateral, f"{name}_signature"))
        signature[40] ^= 1
        by_pck = sign_raw(place.keys["pck"], text.encode())
        changes = {
            "signer": _with(collateral, name, place.pck_chain.decode(), by_pck),
            "signature": _with(collateral, name, getattr(collateral, f"{name}_chain"), bytes(signature)),
            "content": place.resigned(collateral, name, id="TPM"),
            "fresh": place.resigned(collateral, name, issueDate=_OLD, nextUpdate=_OLD),
        }
        found |= {f"{name}.{step}": Broken(good, changed, now) for step, changed in changes.items()}
    other_family = place.resigned(collateral, "tcb_info", fmspc="00" * 6)
    other_pce = place.resigned(collateral, "tcb_info", pceId="00FF")
    found["tcb_info.fmspc"] = Broken(good, other_family, now)
    found["tcb_info.pceid"] = Broken(good, other_pce, now)
    return found


def _with(collateral: IntelCollateral, document: str, chain: str, signature: bytes) -> IntelCollateral:
    """The same document, signed by somebody else."""
    if document == "tcb_info":
        return replace(collateral, tcb_info_chain=chain, tcb_info_signature=signature)
    return replace(collateral, qe_identity_chain=chain, qe_identity_signature=signature)


def _keys(maker: Maker, place: Installation, good: bytes, collateral: IntelCollateral, now: int) -> dict[str, Broken]:
    stranger = QuotingEnclave(place, maker.product, mrsigner=bytes(32))
    liar = QuotingEnclave(place, maker.product, vouches_for=signatures.generate_p256())
    old = QuotingEnclave(place, maker.product, svn=tcb.QE_SVN - 1)
    foreign = replace(place, keys=place.keys | {"pck": signatures.generate_p256()})
    forged = bytearray(good)
    forged[SIGNED_BYTES[maker.kind] + 4] ^= 1  # in the quote's own signature
    unreachable = place.resigned(collateral, "tcb_info", tcbLevels=[])
    return {
        "qe.signature": Broken(maker.with_enclave(place, QuotingEnclave(foreign, maker.product)), collateral, now),
        "qe.binding": Broken(maker.with_enclave(place, liar), collateral, now),
        "quote.signature": Broken(bytes(forged), collateral, now),
        "qe.identity": Broken(maker.with_enclave(place, stranger), collateral, now),
        "tcb.qe": Broken(maker.with_enclave(place, old), collateral, now),
        "tcb.platform": Broken(good, unreachable, now),
    }
