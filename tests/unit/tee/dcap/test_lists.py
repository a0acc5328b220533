"""Revocation lists whose bytes are still at hand: the same outcome as without, for every byte that may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dcap_world import NOW, collateral_of, noon

from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, SignatureInvalid


def outcomes(der: bytes, issuer: Any, now: int) -> tuple[bool, bool] | None:
    """Whether a list holds, judged with and without its bytes; None if it does not parse."""
    try:
        crl = x509.load_crl(der)
    except MalformedEvidence:
        return None
    found = []
    for given in (der, None):
        try:
            x509.check_crl(crl, issuer=issuer, now=now, der=given)
            found.append(True)
        except SignatureInvalid:
            found.append(False)
    return found[0], found[1]


def test_a_good_list_holds_either_way(place: Any):
    issuer = place.installation.certificates["platform-ca"]
    assert outcomes(place.collateral.pck_crl, issuer, NOW) == (True, True)
    assert outcomes(place.collateral.pck_crl, issuer, NOW + 40 * 86_400) == (False, False)
    assert outcomes(place.collateral.pck_crl, place.installation.certificates["root"], NOW) == (False, False)


def test_no_changed_byte_of_a_list_is_accepted_either_way(place: Any):
    issuer, der = place.installation.certificates["platform-ca"], place.collateral.pck_crl
    for at in range(len(der)):
        for bit in (0, 3, 7):
            changed = bytearray(der)
            changed[at] ^= 1 << bit
            found = outcomes(bytes(changed), issuer, NOW)
            assert found in {None, (False, False)}, (at, bit)


@pytest.mark.parametrize("member", ["root_ca_crl", "pck_crl"])
def test_real_lists_hold_either_way(vectors: Path, member: str):
    bundle = collateral_of((vectors / "tdx/v4_b0c06f_uptodate.collateral.json").read_bytes())
    authority, root = x509.load_chain(bundle.pck_crl_chain)
    issuer = {"root_ca_crl": root, "pck_crl": authority}[member]
    der = getattr(bundle, member)
    assert outcomes(der, issuer, noon("2025-07-04")) == (True, True)
    assert outcomes(der[:-1] + bytes([der[-1] ^ 1]), issuer, noon("2025-07-04")) == (False, False)
