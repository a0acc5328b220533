"""SGX quotes that are good, and bad ones derived from them: which step notices, and what is no longer claimed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dcap_world import DATA, MRENCLAVE, failures

from strongroom.errors import Unreadable
from strongroom.records.evidence import IntelCollateral
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import VENDOR_ANCHORS
from strongroom.tee.sgx import parse_quote, verify
from strongroom_sim import sgx as simulated
from strongroom_sim import tcb
from strongroom_sim.sgx import SgxEnclave

IDS = [
    "sgx.anchor",
    "sgx.collateral",
    "sgx.quote.header",
    "sgx.pck.chain",
    "sgx.root.crl",
    "sgx.pck.crl",
    "sgx.pck.extension",
    *(f"sgx.tcb_info.{step}" for step in ("signer", "signature", "content", "fresh", "fmspc", "pceid")),
    *(f"sgx.qe_identity.{step}" for step in ("signer", "signature", "content", "fresh")),
    "sgx.qe.signature",
    "sgx.qe.binding",
    "sgx.quote.signature",
    "sgx.qe.identity",
    "sgx.tcb.qe",
    "sgx.tcb.platform",
]


def test_a_simulated_quote_passes_every_step_under_its_own_root(place: Any):
    genuine = place.judge(place.quote)
    assert [check.id for check in genuine.checks] == IDS
    assert all_passed(genuine.checks)
    assert (genuine.kind, genuine.root_class) == ("sgx", RootClass.INSTALLATION)
    assert (genuine.tcb_status, genuine.advisories) == ("UpToDate", ())
    assert genuine.claims["report_data"] == DATA.hex()
    assert genuine.claims["mrenclave"] == MRENCLAVE.hex()
    assert genuine.claims["fmspc"] == tcb.FMSPC.hex()
    assert (genuine.claims["dynamic_platform"], genuine.claims["cached_keys"], genuine.claims["smt"]) == ("0", "0", "0")


def test_what_the_enclave_is_allowed_is_claimed_bit_by_bit(place: Any):
    names = {
        simulated.DEBUG: "debug",
        simulated.PROVISION_KEY: "provision_key",
        simulated.EINITTOKEN_KEY: "einittoken_key",
        simulated.KSS: "kss",
    }
    for bit, name in names.items():
        enclave = SgxEnclave(place.installation, mrenclave=MRENCLAVE, attributes=[bit])
        claims = place.judge(enclave.quote(DATA)).claims
        assert {other: claims[other] for other in names.values()} == {
            other: str(int(other == name)) for other in names.values()
        }
        assert claims["mode64"] == "1"


def test_what_the_enclave_is_is_claimed(place: Any):
    enclave = SgxEnclave(
        place.installation,
        mrenclave=MRENCLAVE,
        mrsigner=bytes([7]) * 32,
        isvprodid=513,
        isvsvn=9,
        config_id=bytes(range(64)),
        config_svn=258,
        miscselect=b"\x01\0\0\0",
    )
    claims = place.judge(enclave.quote(DATA)).claims
    assert (claims["mrsigner"], claims["isvprodid"], claims["isvsvn"]) == ("07" * 32, 513, 9)
    assert (claims["config_id"], claims["config_svn"]) == (bytes(range(64)).hex(), 258)
    assert (claims["miscselect"], claims["xfrm"]) == ("01000000", "e700000000000000")
    assert (claims["isv_family_id"], claims["isv_ext_prod_id"]) == ("00" * 16, "00" * 16)


def test_a_debug_enclave_is_genuine_and_says_so(place: Any):
    enclave = SgxEnclave(place.installation, mrenclave=MRENCLAVE, attributes=[simulated.DEBUG])
    genuine = place.judge(enclave.quote(DATA))
    assert all_passed(genuine.checks)
    assert genuine.claims["debug"] == "1"


@pytest.mark.parametrize("anchors", [(), VENDOR_ANCHORS], ids=["none", "vendors only"])
def test_without_its_root_among_the_anchors_nothing_is_claimed(place: Any, anchors: Any):
    genuine = verify(parse_quote(place.quote), place.collateral, anchors, place.now)
    assert failures(genuine) == {"sgx.anchor"}
    assert (genuine.root_class, genuine.tcb_status, dict(genuine.claims)) == (None, None, {})


def test_the_same_root_as_an_anchor_of_tdx_does_not_count(place: Any):
    anchor = replace(place.anchor, kind="tdx")
    genuine = verify(parse_quote(place.quote), place.collateral, [anchor], place.now)
    assert failures(genuine) == {"sgx.anchor"}


def test_collateral_of_tdx_is_refused(place: Any):
    other = place.installation.collateral(place.now, kind="tdx")
    assert failures(place.judge(place.quote, other)) == {"sgx.tcb_info.content", "sgx.qe_identity.content"}
    mixed = replace(place.collateral, qe_identity=other.qe_identity, qe_identity_signature=other.qe_identity_signature)
    assert failures(place.judge(place.quote, mixed)) == {"sgx.qe_identity.content"}


def test_the_quoting_enclave_of_tds_quotes_no_enclave(place: Any):
    from strongroom_sim.quoting import QuotingEnclave

    qe = QuotingEnclave(place.installation, tcb.QE_PRODUCT)
    enclave = SgxEnclave(place.installation, mrenclave=MRENCLAVE, quoting_enclave=qe)
    assert failures(place.judge(enclave.quote(DATA))) == {"sgx.qe.identity"}


def test_a_platform_named_by_ppid_is_judged_with_the_chain_of_the_collateral(place: Any):
    quote = place.enclave.quote(DATA, by_ppid=True)
    chain = place.installation.pck_chain.decode()
    genuine = place.judge(quote, replace(place.collateral, pck_chain=chain))
    assert all_passed(genuine.checks)
    assert genuine.claims["ppid"] == place.installation.platform.ppid.hex()


def test_without_a_chain_of_the_collateral_such_a_quote_is_refused(place: Any):
    quote = place.enclave.quote(DATA, by_ppid=True)
    assert failures(place.judge(quote)) == {"sgx.anchor"}
    genuine = verify(parse_quote(quote), None, [place.anchor], place.now)
    assert failures(genuine) == {"sgx.collateral"}
    assert {check.id for check in genuine.checks if check.status is Status.PASS} == {"sgx.quote.header"}


def test_the_chain_of_another_platform_does_not_do(place: Any, other_place: Any):
    quote = place.enclave.quote(DATA, by_ppid=True)
    foreign = replace(other_place.collateral, pck_chain=other_place.installation.pck_chain.decode())
    genuine = verify(parse_quote(quote), foreign, [place.anchor, other_place.anchor], place.now)
    assert failures(genuine) == {"sgx.qe.signature"}
    assert "mrenclave" not in genuine.claims


def test_a_chain_of_the_collateral_does_not_replace_the_quotes_own(place: Any, other_place: Any):
    mixed = replace(place.collateral, pck_chain=other_place.installation.pck_chain.decode())
    assert all_passed(place.judge(place.quote, mixed).checks)


@pytest.mark.parametrize(("svn", "status"), [(5, "UpToDate"), (4, "OutOfDate"), (3, "OutOfDate"), (1, None), (0, None)])
def test_the_platforms_level_is_the_first_that_all_its_components_reach(place: Any, svn: int, status: str | None):
    components = (5,) * 15 + (svn,)
    platform = replace(place.installation.platform, components=components)
    elsewhere = place.installation.reissued("pck", place.now, platform=platform)
    genuine = place.judge(SgxEnclave(elsewhere, mrenclave=MRENCLAVE).quote(DATA))
    assert genuine.tcb_status == status
    assert failures(genuine) == (set() if status else {"sgx.tcb.platform"})
    assert genuine.advisories == ((tcb.ADVISORY,) if status == "OutOfDate" else ())


def test_the_components_of_the_certificate_count_and_not_those_of_the_report(place: Any):
    platform = replace(place.installation.platform, pcesvn=tcb.PCESVN - 1)
    elsewhere = place.installation.reissued("pck", place.now, platform=platform)
    assert failures(place.judge(SgxEnclave(elsewhere, mrenclave=MRENCLAVE).quote(DATA))) == {"sgx.tcb.platform"}


def test_no_flipped_bit_in_a_quote_is_accepted(place: Any):
    quote = place.quote
    for position in range(0, len(quote), 3):
        changed = bytearray(quote)
        changed[position] ^= 1 << (position % 8)
        try:
            genuine = place.judge(bytes(changed))
        except Unreadable:
            continue
        assert not all_passed(genuine.checks), f"byte {position}"


@pytest.mark.parametrize("member", ["tcb_info", "tcb_info_signature", "qe_identity", "root_ca_crl", "pck_crl"])
def test_no_flipped_bit_in_collateral_is_accepted(place: Any, member: str):
    original = getattr(place.collateral, member)
    data = original.encode() if isinstance(original, str) else original
    for position in range(0, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 7)
        value = changed.decode("latin-1") if isinstance(original, str) else bytes(changed)
        genuine = place.judge(place.quote, replace(place.collateral, **{member: value}))
        assert not all_passed(genuine.checks), f"{member} byte {position}"


@pytest.mark.parametrize("member", [name for name in IntelCollateral.__slots__ if name != "pck_chain"])
def test_missing_collateral_is_a_failed_check(place: Any, member: str):
    empty: str | bytes = "" if isinstance(getattr(place.collateral, member), str) else b""
    genuine = place.judge(place.quote, replace(place.collateral, **{member: empty}))
    assert not all_passed(genuine.checks)
