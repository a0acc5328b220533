"""SGX quotes of real machines, each with its stated outcome at its stated time, and dcap-qvl as a second opinion.

The second opinion cannot read TCB info of version 2, nor quotes that bring no chain, and it refuses debug enclaves itself;
here debug is a claim, which the appraisal refuses. Intel's sample set hangs from a root of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dcap_world import (
    collateral_of,
    failures,
    noon,
    peers_collateral,
    read_quote,
    second_opinion,
    signed_document,
)

from strongroom.appraisal.kinds.sgx import exposed
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import IntelCollateral
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import INTEL_SGX_ROOT_FOR_SGX, VENDOR_ANCHORS, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.sgx import parse_quote, verify

ROCKET_LAKE, DEBUG = "v3_00a067_config_and_swhardening.quote", "v3_00606a_DEBUG_occlum.quote"
SAMPLES = "intelqvl_testroot"
PLATFORM_OF_2021 = (
    "INTEL-SA-00586", "INTEL-SA-00614", "INTEL-SA-00615", "INTEL-SA-00657", "INTEL-SA-00730", "INTEL-SA-00738",
    "INTEL-SA-00767", "INTEL-SA-00828", "INTEL-SA-00837", "INTEL-SA-00960",
)  # fmt: skip


def own(vectors: Path) -> IntelCollateral:
    """The bundle of the Rocket Lake machine."""
    return collateral_of((vectors / "v3_00a067_config_and_swhardening.collateral.json").read_bytes())


def ice_lake(vectors: Path, tcb_info: str) -> IntelCollateral:
    """Collateral of the Ice Lake machine: Intel's answers of 2025 with the revocation lists of June 2025."""
    lists = collateral_of((vectors.parent / "tdx/bundles/00806f05_2025-06-25.json").read_bytes())
    text, signature = signed_document(vectors / tcb_info, "tcbInfo")
    bundle = own(vectors)
    return replace(
        lists,
        tcb_info=text,
        tcb_info_signature=signature,
        qe_identity=bundle.qe_identity,
        qe_identity_signature=bundle.qe_identity_signature,
    )


def august(vectors: Path) -> IntelCollateral:
    text, signature = signed_document(vectors / "pcs_sgx_qeidentity_2025-08.json", "enclaveIdentity")
    found = ice_lake(vectors, "00606a_pcs_tcbinfo_2025-08.json")
    return replace(found, qe_identity=text, qe_identity_signature=signature)


def june_v2(vectors: Path) -> IntelCollateral:
    return ice_lake(vectors, "00606a_pcs_tcbinfo_v2format_2025-06.json")


def samples(vectors: Path) -> IntelCollateral:
    """Intel's sample set: its quote names the platform by PPID, so the chain is collateral."""
    folder = vectors / SAMPLES
    info, info_signature = signed_document(folder / "tcbInfo.json", "tcbInfo")
    identity, identity_signature = signed_document(folder / "qeIdentity.json", "enclaveIdentity")
    signing, authority = (folder / "tcbSignChain.pem").read_text(), (folder / "pckSignChain.pem").read_text()
    return IntelCollateral(
        tcb_info=info,
        tcb_info_signature=info_signature,
        tcb_info_chain=signing,
        qe_identity=identity,
        qe_identity_signature=identity_signature,
        qe_identity_chain=signing,
        root_ca_crl=(folder / "rootCaCrl.der").read_bytes(),
        pck_crl=(folder / "intermediateCaCrl.der").read_bytes(),
        pck_crl_chain=authority,
        pck_chain=(folder / "pckCert.pem").read_text() + authority,
    )


# quote, collateral, day, merged status, advisories, failed checks, debug, what dcap-qvl says (None: it refuses)
CASES: list[
    tuple[str, Callable[[Path], IntelCollateral], str, str | None, tuple[str, ...], set[str], str, str | None]
] = [
    (
        ROCKET_LAKE, own, "2025-07-04", "ConfigurationAndSWHardeningNeeded", ("INTEL-SA-00289", "INTEL-SA-00615"),
        set(), "0", "ConfigurationAndSWHardeningNeeded",
    ),
    (
        ROCKET_LAKE, own, "2025-07-20", None, (),
        {"sgx.pck.crl", "sgx.tcb_info.fresh", "sgx.qe_identity.fresh"}, "0", None,
    ),
    (DEBUG, june_v2, "2025-06-25", "OutOfDate", ("unstated",), set(), "1", None),
    (DEBUG, august, "2025-08-20", "OutOfDate", PLATFORM_OF_2021, {"sgx.pck.crl"}, "1", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "collateral", "day", "status", "advisories", "failed", "debug", "peer"), CASES)
def test_a_real_quote_has_its_stated_outcome(
    vectors: Path,
    name: str,
    collateral: Callable[[Path], IntelCollateral],
    day: str,
    status: str | None,
    advisories: tuple[str, ...],
    failed: set[str],
    debug: str,
    peer: str | None,
):
    quote, brought = read_quote(vectors, name), collateral(vectors)
    genuine = verify(parse_quote(quote), brought, VENDOR_ANCHORS, noon(day))
    assert failures(genuine) == failed, name
    assert all_passed(genuine.checks) is not bool(failed)
    assert (genuine.tcb_status, genuine.advisories) == (status, advisories)
    assert genuine.root_class is RootClass.SILICON
    assert genuine.claims["debug"] == debug
    (exposure,) = [check for check in exposed(genuine) if check.id == "sgx.debug"]
    assert exposure.status is (Status.PASS if debug == "0" else Status.FAIL)
    assert second_opinion(quote, peers_collateral(brought).to_json(), noon(day)) == peer


def judged_samples(vectors: Path, anchors: object, day: str) -> Genuine:
    quote = parse_quote((vectors / SAMPLES / "quote.dat").read_bytes())
    return verify(quote, samples(vectors), anchors, noon(day))  # type: ignore[arg-type]


def test_intels_samples_are_refused_under_the_production_root(vectors: Path):
    genuine = judged_samples(vectors, VENDOR_ANCHORS, "2020-01-01")
    assert failures(genuine) == {"sgx.anchor"}
    assert dict(genuine.claims) == {}


@pytest.mark.parametrize(
    ("day", "failed"),
    [
        ("2020-01-01", set()),
        ("2026-08-27", set()),
        ("2026-09-04", {"sgx.tcb_info.signer", "sgx.qe_identity.signer"}),
        ("2026-09-06", {"sgx.pck.chain"}),
        ("2019-09-04", {"sgx.pck.chain"}),
    ],
)
def test_intels_samples_pass_under_their_own_root_while_their_certificates_hold(
    vectors: Path, day: str, failed: set[str]
):
    root = installation_anchor("sgx", (vectors / SAMPLES / "trustedRootCaCert.pem").read_bytes())
    genuine = judged_samples(vectors, [root], day)
    assert failures(genuine) == failed
    assert genuine.tcb_status == (None if failed else "UpToDate")
    assert genuine.root_class is (None if "sgx.pck.chain" in failed else RootClass.INSTALLATION)


def test_the_production_root_is_an_anchor_of_both_kinds(vectors: Path):
    chain = parse_quote(read_quote(vectors, ROCKET_LAKE)).pck_chain
    root = chain[chain.rindex("-----BEGIN") :]
    assert installation_anchor("sgx", root) == INTEL_SGX_ROOT_FOR_SGX
    assert installation_anchor("tdx", root).fingerprint == INTEL_SGX_ROOT_FOR_SGX.fingerprint


def test_the_chains_of_two_real_machines_do_not_mix(vectors: Path):
    mine, other = (parse_quote(read_quote(vectors, name)) for name in (DEBUG, ROCKET_LAKE))
    mixed = mine._replace(pck_chain=other.pck_chain)
    genuine = verify(mixed, own(vectors), VENDOR_ANCHORS, noon("2025-07-04"))
    assert failures(genuine) == {"sgx.qe.signature"}
    assert "mrenclave" not in genuine.claims


def test_tcb_info_of_another_family_is_refused(vectors: Path):
    quote = parse_quote(read_quote(vectors, ROCKET_LAKE))
    foreign = ice_lake(vectors, "00606a_pcs_tcbinfo_v2format_2025-06.json")
    mixed = replace(own(vectors), tcb_info=foreign.tcb_info, tcb_info_signature=foreign.tcb_info_signature)
    genuine = verify(quote, mixed, VENDOR_ANCHORS, noon("2025-06-25"))
    assert failures(genuine) == {"sgx.tcb_info.fmspc"}


def test_no_flipped_bit_in_a_real_quote_is_accepted(vectors: Path):
    quote, collateral = read_quote(vectors, ROCKET_LAKE), own(vectors)
    for position in range(0, len(quote), 11):
        changed = bytearray(quote)
        changed[position] ^= 1 << (position % 8)
        try:
            parsed = parse_quote(bytes(changed))
        except MalformedEvidence:
            continue
        assert not all_passed(verify(parsed, collateral, VENDOR_ANCHORS, noon("2025-07-04")).checks), position


def test_anything_behind_a_real_quote_is_refused(vectors: Path):
    for name in (ROCKET_LAKE, DEBUG, f"{SAMPLES}/quote.dat"):
        with pytest.raises(MalformedEvidence):
            parse_quote((vectors / name).read_bytes() + b"\0")
