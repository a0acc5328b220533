"""Bad evidence, each kind derived from good simulated evidence: which step notices, and what is no longer claimed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dcap_world import DATA, NOW, failures

from strongroom.errors import StrongroomError, Unreadable
from strongroom.records.evidence import IntelCollateral
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.tdx import parse_quote, verify
from strongroom.tee.tdx.parse import EnclaveReport
from strongroom_sim import Chip, tcb
from strongroom_sim.ca import sign_raw

DAY = 86_400


def outcome(genuine: Genuine, identifier: str) -> Status:
    (check,) = [check for check in genuine.checks if check.id == identifier]
    return check.status


def resigned(place: Any, change: Callable[[dict[str, Any]], None], document: str = "tcb_info") -> IntelCollateral:
    """The place's collateral with one document changed and signed anew by its rightful signer."""
    content = json.loads(getattr(place.collateral, document))
    change(content)
    text = json.dumps(content)
    signature = sign_raw(place.installation.keys["tcb-signing"], text.encode())
    return replace(place.collateral, **{document: text, f"{document}_signature": signature})


def test_a_simulated_quote_passes_every_step_under_its_own_root(place: Any):
    genuine = place.judge(place.chip.quote(DATA))
    assert all_passed(genuine.checks)
    assert (genuine.root_class, genuine.tcb_status, genuine.advisories) == (RootClass.INSTALLATION, "UpToDate", ())
    assert genuine.claims["report_data"] == DATA.hex()
    assert genuine.claims["fmspc"] == tcb.FMSPC.hex()
    assert genuine.claims["mr_service_td"] == ""


def test_check_ids_are_stable_and_unique(place: Any):
    genuine = place.judge(place.chip.quote(DATA))
    document = ("signer", "signature", "content", "fresh")
    assert [check.id for check in genuine.checks] == [
        "tdx.anchor",
        "tdx.collateral",
        "tdx.quote.header",
        "tdx.pck.chain",
        "tdx.root.crl",
        "tdx.pck.crl",
        "tdx.pck.extension",
        *(f"tdx.tcb_info.{name}" for name in document),
        "tdx.tcb_info.fmspc",
        "tdx.tcb_info.pceid",
        *(f"tdx.qe_identity.{name}" for name in document),
        "tdx.qe.signature",
        "tdx.qe.binding",
        "tdx.quote.signature",
        "tdx.qe.identity",
        "tdx.tcb.qe",
        "tdx.tcb.platform",
        "tdx.tcb.module",
        "tdx.tcb.current",
    ]


@pytest.mark.parametrize("anchors", [(), VENDOR_ANCHORS], ids=["none", "vendors only"])
def test_without_its_root_among_the_anchors_nothing_passes_nor_is_claimed(place: Any, anchors: tuple[TrustAnchor, ...]):
    genuine = verify(parse_quote(place.chip.quote(DATA)), place.collateral, anchors, place.now)
    assert failures(genuine) == {"tdx.anchor"}
    passed = [check.id for check in genuine.checks if check.status is Status.PASS]
    assert passed == ["tdx.collateral", "tdx.quote.header"]
    assert (genuine.root_class, genuine.tcb_status, dict(genuine.claims)) == (None, None, {})


def test_an_anchor_for_another_kind_of_evidence_does_not_count(place: Any):
    anchor = replace(place.anchor, kind="snp")
    genuine = verify(parse_quote(place.chip.quote(DATA)), place.collateral, [anchor], place.now)
    assert "tdx.anchor" in failures(genuine)


def test_collateral_of_another_installation_is_refused(place: Any, other_place: Any):
    genuine = place.judge(place.chip.quote(DATA), other_place.collateral)
    assert failures(genuine) == {"tdx.root.crl", "tdx.pck.crl"}
    assert outcome(genuine, "tdx.tcb_info.signer") is Status.NOT_RUN


def test_collateral_signed_under_another_trusted_root_is_refused_too(place: Any, other_place: Any):
    mixed = replace(
        place.collateral,
        tcb_info=other_place.collateral.tcb_info,
        tcb_info_signature=other_place.collateral.tcb_info_signature,
        tcb_info_chain=other_place.collateral.tcb_info_chain,
    )
    anchors = [place.anchor, other_place.anchor]
    genuine = verify(parse_quote(place.chip.quote(DATA)), mixed, anchors, place.now)
    assert failures(genuine) == {"tdx.tcb_info.signer"}


def test_a_pck_leaf_cannot_sign_collateral(place: Any):
    installation = place.installation
    text = place.collateral.tcb_info
    confused = replace(
        place.collateral,
        tcb_info_chain=installation.pck_chain.decode(),
        tcb_info_signature=sign_raw(installation.keys["pck"], text.encode()),
    )
    assert failures(place.judge(place.chip.quote(DATA), confused)) == {"tdx.tcb_info.signer"}


def test_the_platform_ca_cannot_sign_collateral(place: Any):
    text = place.collateral.qe_identity
    confused = replace(
        place.collateral,
        qe_identity_chain=place.collateral.pck_crl_chain,
        qe_identity_signature=sign_raw(place.installation.keys["platform-ca"], text.encode()),
    )
    assert failures(place.judge(place.chip.quote(DATA), confused)) == {"tdx.qe_identity.signer"}


@pytest.mark.parametrize("role", ["pck", "platform-ca", "tcb-signing"])
def test_a_revoked_certificate_is_refused(place: Any, role: str):
    collateral = place.installation.collateral(place.now, revoked=(role,))
    expected = {
        "pck": {"tdx.pck.crl"},
        "platform-ca": {"tdx.root.crl"},
        "tcb-signing": {"tdx.tcb_info.signer", "tdx.qe_identity.signer"},
    }[role]
    assert failures(place.judge(place.chip.quote(DATA), collateral)) == expected


def test_the_root_crl_does_not_stand_for_the_pck_crl(place: Any):
    swapped = replace(place.collateral, pck_crl=place.collateral.root_ca_crl)
    assert failures(place.judge(place.chip.quote(DATA), swapped)) == {"tdx.pck.crl"}


def test_a_pck_crl_chain_of_another_ca_is_refused(place: Any):
    swapped = replace(place.collateral, pck_crl_chain=place.collateral.tcb_info_chain)
    assert failures(place.judge(place.chip.quote(DATA), swapped)) == {"tdx.pck.crl"}


@pytest.mark.parametrize(("shift", "fresh"), [(0, True), (30 * DAY, True), (30 * DAY + 1, False), (-3601, False)])
def test_collateral_holds_exactly_from_issue_to_next_update(place: Any, shift: int, fresh: bool):  # noqa: FBT001
    genuine = place.judge(place.chip.quote(DATA), now=place.now + shift)
    expected = set() if fresh else {"tdx.root.crl", "tdx.pck.crl"}
    assert failures(genuine) == expected
    assert (genuine.tcb_status == "UpToDate") is fresh


def test_an_expired_document_is_refused_under_fresh_crls(place: Any):
    later = place.now + 31 * DAY
    crls = place.installation.collateral(later)
    stale = replace(place.collateral, root_ca_crl=crls.root_ca_crl, pck_crl=crls.pck_crl)
    genuine = place.judge(place.chip.quote(DATA), stale, now=later)
    assert failures(genuine) == {"tdx.tcb_info.fresh", "tdx.qe_identity.fresh"}
    assert "tcb_evaluation_number" not in genuine.claims


def test_certificates_expire(place: Any):
    later = place.now + 4000 * DAY
    genuine = place.judge(place.chip.quote(DATA), place.installation.collateral(later), now=later)
    assert failures(genuine) == {"tdx.pck.chain"}
    assert genuine.root_class is None


@pytest.mark.parametrize(
    ("member", "value", "check"),
    [
        ("fmspc", "00806F050000", "tdx.tcb_info.fmspc"),
        ("pceId", "0001", "tdx.tcb_info.pceid"),
        ("id", "SGX", "tdx.tcb_info.content"),
        ("version", 2, "tdx.tcb_info.content"),
        ("tcbType", 1, "tdx.tcb_info.content"),
        ("issueDate", "2026-09-21T99:00:00Z", "tdx.tcb_info.content"),
        ("tcbLevels", "none", "tdx.tcb_info.content"),
        ("tcbLevels", [], "tdx.tcb.platform"),
        ("tdxModuleIdentities", [], "tdx.tcb.module"),
    ],
)
def test_tcb_info_must_be_of_this_platform_and_form(place: Any, member: str, value: object, check: str):
    genuine = place.judge(place.chip.quote(DATA), resigned(place, lambda content: content.update({member: value})))
    assert failures(genuine) == {check}
    assert genuine.tcb_status is None


def test_an_unknown_status_is_refused(place: Any):
    collateral = resigned(place, lambda content: content["tcbLevels"][0].update(tcbStatus="Excellent"))
    assert failures(place.judge(place.chip.quote(DATA), collateral)) == {"tdx.tcb_info.content"}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("mrsigner", "00" * 32),
        ("isvprodid", 1),
        ("miscselect", "01000000"),
        ("attributes", "15" + "00" * 15),
    ],
)
def test_a_quoting_enclave_other_than_intel_names_is_refused(place: Any, member: str, value: object):
    if member == "attributes":  # a bit under the mask; 0x04 (MODE64BIT) is not
        value = "19" + "00" * 15
    collateral = resigned(place, lambda content: content.update({member: value}), "qe_identity")
    genuine = place.judge(place.chip.quote(DATA), collateral)
    assert failures(genuine) == {"tdx.qe.identity"}
    assert outcome(genuine, "tdx.tcb.qe") is Status.NOT_RUN


def test_a_quoting_enclave_in_debug_mode_is_refused_even_where_the_mask_lets_it(place: Any, monkeypatch: Any):
    monkeypatch.setattr(tcb, "QE_ATTRIBUTES", bytes.fromhex("13" + "00" * 15))
    collateral = resigned(
        place, lambda content: content.update(attributesMask="00" * 16, attributes="00" * 16), "qe_identity"
    )
    chip = Chip(place.installation, mrtd=bytes(48))
    assert failures(place.judge(chip.quote(DATA), collateral)) == {"tdx.qe.identity"}


def test_a_module_of_another_signer_is_refused(place: Any):
    collateral = resigned(place, lambda content: content["tdxModuleIdentities"][0].update(mrsigner="11" * 48))
    assert failures(place.judge(place.chip.quote(DATA), collateral)) == {"tdx.tcb.module"}


def test_debug_is_a_claim_and_no_failure(place: Any):
    genuine = place.judge(Chip(place.installation, mrtd=bytes(48), debug=True).quote(DATA))
    assert all_passed(genuine.checks)
    assert genuine.claims["td_attributes"] == "0100001000000000"


def test_an_older_module_makes_the_whole_out_of_date_with_its_advisories(place: Any):
    chip = Chip(place.installation, mrtd=bytes(48), tee_tcb_svn=tcb.TEE_TCB_SVN_OUT_OF_DATE)
    genuine = place.judge(chip.quote(DATA))
    assert all_passed(genuine.checks)
    assert (genuine.tcb_status, genuine.advisories) == ("OutOfDate", (tcb.ADVISORY,))


def test_a_revoked_level_fails(place: Any):
    chip = Chip(place.installation, mrtd=bytes(48), tee_tcb_svn=tcb.TEE_TCB_SVN_REVOKED)
    genuine = place.judge(chip.quote(DATA))
    assert failures(genuine) == {"tdx.tcb.platform", "tdx.tcb.module"}
    assert genuine.tcb_status is None


def test_an_old_quoting_enclave_reaches_no_level(place: Any):
    genuine = place.judge(Chip(place.installation, mrtd=bytes(48), qe_svn=1).quote(DATA))
    assert failures(genuine) == {"tdx.tcb.qe"}


def test_the_first_module_generation_is_compared_from_the_first_component(place: Any):
    good = Chip(place.installation, mrtd=bytes(48), tee_tcb_svn=bytes([5, 0, 5]) + bytes(13))
    assert place.judge(good.quote(DATA)).tcb_status == "UpToDate"
    old = Chip(place.installation, mrtd=bytes(48), tee_tcb_svn=bytes([3, 0, 5]) + bytes(13))
    assert place.judge(old.quote(DATA)).tcb_status == "OutOfDate"


def test_the_lower_evaluation_number_is_claimed(place: Any):
    collateral = resigned(place, lambda content: content.update(tcbEvaluationDataNumber=9))
    assert place.judge(place.chip.quote(DATA), collateral).claims["tcb_evaluation_number"] == 1


def test_an_attestation_key_that_the_quoting_enclave_never_saw_is_refused(place: Any, other_place: Any):
    mine, other = parse_quote(place.chip.quote(DATA)), parse_quote(Chip(place.installation, mrtd=bytes(48)).quote(DATA))
    forged = mine._replace(signature=other.signature, attestation_key=other.attestation_key, signed=other.signed)
    genuine = verify(forged, place.collateral, [place.anchor], place.now)
    assert failures(genuine) == {"tdx.qe.binding"}
    assert "mrtd" not in genuine.claims
    foreign = mine._replace(pck_chain=parse_quote(other_place.chip.quote(DATA)).pck_chain)
    anchors = [place.anchor, other_place.anchor]
    assert "tdx.qe.signature" in failures(verify(foreign, other_place.collateral, anchors, place.now))


def test_no_flipped_bit_in_a_quote_is_accepted(place: Any):
    """Every byte once, another bit each: header, body, signatures, keys, QE report, auth data, and the PEM chain."""
    quote = place.chip.quote(DATA)
    for position in range(0, len(quote), 3):
        changed = bytearray(quote)
        changed[position] ^= 1 << (position % 8)
        try:
            genuine = place.judge(bytes(changed))
        except Unreadable:
            continue
        assert not all_passed(genuine.checks), f"byte {position}"


@pytest.mark.parametrize(
    "member",
    [
        "tcb_info",
        "tcb_info_signature",
        "tcb_info_chain",
        "qe_identity",
        "qe_identity_signature",
        "root_ca_crl",
        "pck_crl",
    ],
)
def test_no_flipped_bit_in_collateral_is_accepted(place: Any, member: str):
    quote = place.chip.quote(DATA)
    original = getattr(place.collateral, member)
    data = original.encode() if isinstance(original, str) else original
    for position in range(0, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 7)
        value = changed.decode("latin-1") if isinstance(original, str) else bytes(changed)
        genuine = place.judge(quote, replace(place.collateral, **{member: value}))
        assert not all_passed(genuine.checks), f"{member} byte {position}"


NEEDED = [member for member in IntelCollateral.__slots__ if member != "pck_chain"]


@pytest.mark.parametrize("member", NEEDED)
def test_missing_collateral_is_a_failed_check_and_no_crash(place: Any, member: str):
    empty: str | bytes = "" if isinstance(getattr(place.collateral, member), str) else b""
    try:
        genuine = place.judge(place.chip.quote(DATA), replace(place.collateral, **{member: empty}))
    except StrongroomError as error:  # pragma: no cover
        pytest.fail(f"verify raised {error}")
    assert not all_passed(genuine.checks)
    assert genuine.tcb_status is None or member.startswith("pck_crl")


def test_text_that_is_no_unicode_is_a_failed_check_and_no_crash(place: Any):
    broken = replace(place.collateral, tcb_info=place.collateral.tcb_info[:-1] + "\ud800", qe_identity="\ud800")
    assert failures(place.judge(place.chip.quote(DATA), broken)) == {
        "tdx.tcb_info.signature",
        "tdx.qe_identity.signature",
    }


def test_an_attestation_key_off_the_curve_is_a_failed_check(place: Any):
    quote = parse_quote(place.chip.quote(DATA))
    key = bytes(63) + b"\x01"
    report = bytearray(quote.qe_report.raw)
    report[320:352] = hashlib.sha256(key + quote.qe_auth_data).digest()
    forged = quote._replace(
        attestation_key=key,
        qe_report=EnclaveReport(bytes(report)),
        qe_report_signature=sign_raw(place.installation.keys["pck"], bytes(report)),
    )
    genuine = verify(forged, place.collateral, [place.anchor], place.now)
    assert failures(genuine) == {"tdx.quote.signature"}


def test_an_attestation_key_that_was_certified_once_is_known_for_exactly_these_bytes(
    place: Any, monkeypatch: pytest.MonkeyPatch
):
    """The link from the PCK to the attestation key is remembered; whatever differs in it is verified, and refused."""
    from strongroom.tee.dcap import signatures

    def judged(quote: Any) -> Genuine:
        return verify(quote, place.collateral, [place.anchor], NOW)

    good = parse_quote(place.chip.quote(DATA))
    assert judged(good).holds
    checked: list[str] = []
    real = signatures.check

    def counted(key: Any, signature: bytes, data: bytes, what: str) -> bool:
        checked.append(what)
        return real(key, signature, data, what)

    monkeypatch.setattr(signatures, "check", counted)
    again = judged(parse_quote(place.chip.quote(bytes(64))))
    assert again.holds
    assert checked == ["the quote"]
    other = Chip(place.installation, mrtd=bytes(48))
    checked.clear()
    assert judged(parse_quote(other.quote(DATA))).holds
    assert checked == ["the QE report", "the quote"]
    flipped = bytes([good.qe_report_signature[0] ^ 1]) + good.qe_report_signature[1:]
    key = parse_quote(other.quote(DATA)).attestation_key
    for change, failing in (
        ({"qe_report_signature": flipped}, "tdx.qe.signature"),
        ({"attestation_key": key}, "tdx.qe.binding"),
        ({"qe_auth_data": good.qe_auth_data + b"\0"}, "tdx.qe.binding"),
        ({"qe_report": parse_quote(other.quote(DATA)).qe_report}, "tdx.qe.signature"),
    ):
        for _ in range(2):  # what failed is not remembered either
            assert failing in failures(judged(good._replace(**change)))
