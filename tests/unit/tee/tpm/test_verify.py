"""Bad evidence, derived from good simulated evidence: which step notices, and what is no longer claimed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from strongroom.errors import MalformedEvidence
from strongroom.records import codec
from strongroom.records.evidence import TpmCollateral
from strongroom.records.tpm import TpmQuote
from strongroom.records.verdict import RootClass, Status
from strongroom.tee.anchors import TPM_ROOTS, VENDOR_ANCHORS, installation_anchor
from strongroom.tee.genuine import NO_CRL
from strongroom.tee.tpm import AkTrust, parse_key, parse_quote, read_quote, verify
from strongroom.tee.tpm import parse as structures
from strongroom.tee.tpm.enrol import enrolment_anchor
from strongroom.tee.tpm.instance import INSTANCE, parse_instance
from strongroom_sim.broken.tpm import enrolled
from strongroom_sim.tpm import AK_ATTRIBUTES, Statement, Tpm, attest, public_area, signature

from .conftest import NOW, QUALIFYING, failed

YEAR = 366 * 86_400


def named(key: Any, **changes: Any) -> AkTrust:
    return AkTrust(parse_key(public_area(key, **changes)).name, RootClass.CLOUD, "test")


def quoted(place: Any, key: Any, public: bytes, **changes: Any) -> TpmQuote:
    """A quote by any key over the registers of the place's TPM."""
    data = place.tpm.attest(Statement(QUALIFYING), [("sha256", (0, 7))], changes.pop("digest", "sha256"))
    shown = {"sha256": {str(index): place.tpm.pcrs["sha256"][index].hex() for index in (0, 7)}}
    return TpmQuote(data, signature(key, data, **changes), public, shown)


def test_what_a_tpm_says_besides_its_registers_is_claimed(place: Any):
    claims = place.judge(place.tpm.quote(QUALIFYING, safe=False, resets=7, restarts=3, clock=16)).claims
    assert claims["report_data"] == QUALIFYING.hex()
    assert (claims["clock_safe"], claims["reset_count"], claims["restart_count"]) == ("0", 7, 3)
    assert bytes.fromhex(str(claims["firmware_version"])) == b"strngsim"
    assert claims["ak_source"] == "certificate"
    assert claims["bank"] == "sha256"
    assert claims["pcr4"] == place.tpm.pcrs["sha256"][4].hex()


def test_cve_2022_0317_of_go_attestation_values_are_only_those_that_the_quote_is_about(place: Any):
    """Registers beside the quoted ones were once taken along unseen; here more, fewer or none are all refused."""
    boot = codec.decode(TpmQuote, place.tpm.quote(QUALIFYING, (0, 4, 7)))
    more = {"sha256": {**boot.pcrs["sha256"], "8": "00" * 32}}
    fewer = {"sha256": {"0": boot.pcrs["sha256"]["0"]}}
    beside = {**boot.pcrs, "sha384": {"0": "00" * 48}}
    for pcrs in (more, fewer, beside):
        genuine = place.judge(replace(boot, pcrs=pcrs))
        assert failed(genuine) == {"tpm.pcrs.selection"}
        assert not [name for name in genuine.claims if name.startswith("pcr")]
    assert failed(place.judge(replace(boot, pcrs={}))) == {"tpm.pcrs.bank", "tpm.pcrs.selection"}


def test_trustee_az_vtpm_selection_bitmap_a_resettable_register_cannot_stand_for_another(place: Any):
    """The same values in the same order give the same digest: only the selection says which registers they are of."""
    tpm = Tpm(place.maker, NOW)
    for bank in ("sha256",):
        tpm.pcrs[bank][16], tpm.pcrs[bank][23] = b"\x44" * 32, b"\x77" * 32
    honest = codec.decode(TpmQuote, tpm.quote(QUALIFYING, (16, 23)))
    assert place.judge(honest, tpm.ak_collateral(NOW)).holds
    values = honest.pcrs["sha256"]
    confused = replace(honest, pcrs={"sha256": {"4": values["16"], "7": values["23"]}})
    genuine = place.judge(confused, tpm.ak_collateral(NOW))
    assert failed(genuine) == {"tpm.pcrs.selection"}
    assert "pcr4" not in genuine.claims


def test_registers_of_one_bank_cannot_stand_for_those_of_another(place: Any):
    honest = codec.decode(TpmQuote, place.tpm.quote(QUALIFYING, (0,), banks=("sha1",)))
    wide = {"0": honest.pcrs["sha1"]["0"].ljust(64, "0")}
    assert failed(place.judge(replace(honest, pcrs={"sha256": wide}))) == {"tpm.pcrs.selection"}


def test_an_ak_supplied_by_evidence_is_nobodys_key(place: Any):
    """Whoever makes a key can sign anything with it, attributes included."""
    key = ec.generate_private_key(ec.SECP256R1())
    forged = quoted(place, key, public_area(key.public_key()))
    genuine = verify(read_quote(forged), None, place.anchors, NOW)
    assert failed(genuine) == {"tpm.ak"}
    assert genuine.claims == {}
    assert failed(place.judge(forged)) == {"tpm.ak.certificate"}
    note = enrolled(place.tpm, place.verifier, NOW)
    assert failed(place.judge(forged, note)) == {"tpm.ak.enrolment"}


def test_a_quote_over_no_register_is_refused(place: Any):
    empty = TpmQuote(
        data := attest(Statement(QUALIFYING), [("sha256", ())], bytes(32)),
        signature(place.tpm.ak, data),
        place.tpm.ak_public,
        {"sha256": {}},
    )
    assert {"tpm.pcrs.bank", "tpm.pcrs.selection"} <= failed(place.judge(empty))


def test_both_banks_of_a_quote_are_checked_and_the_preferred_one_is_claimed(place: Any):
    both = codec.decode(TpmQuote, place.tpm.quote(QUALIFYING, (0, 7), banks=("sha384", "sha256")))
    genuine = place.judge(both)
    assert genuine.holds
    assert genuine.claims["bank"] == "sha256"
    spoilt = {**both.pcrs, "sha384": {**both.pcrs["sha384"], "7": "00" * 48}}
    assert failed(place.judge(replace(both, pcrs=spoilt))) == {"tpm.pcrs.digest"}


@pytest.mark.parametrize("bit", [16, 18, 1, 4, 5])
def test_a_key_without_an_attribute_that_it_needs_is_refused(place: Any, bit: int):
    key = place.tpm.ak.public_key()
    public = public_area(key, attributes=AK_ATTRIBUTES & ~(1 << bit))
    word = AkTrust(parse_key(public).name, RootClass.CLOUD, "test")
    assert failed(place.judge(quoted(place, place.tpm.ak, public), vouched=word)) == {"tpm.ak.attributes"}


@pytest.mark.parametrize("bit", [17, 19])
def test_a_key_that_decrypts_or_signs_certificates_is_refused(place: Any, bit: int):
    public = public_area(place.tpm.ak.public_key(), attributes=AK_ATTRIBUTES | 1 << bit)
    word = AkTrust(parse_key(public).name, RootClass.CLOUD, "test")
    assert failed(place.judge(quoted(place, place.tpm.ak, public), vouched=word)) == {"tpm.ak.attributes"}


@pytest.mark.parametrize(
    ("scheme", "name_hash"),
    [
        ((structures.ECDSA, "sha1"), "sha256"),
        (None, "sha256"),
        ((structures.RSASSA, "sha256"), "sha256"),
        ((structures.ECDSA, "sha256"), "sha1"),
    ],
)
def test_a_key_whose_scheme_is_weak_or_open_is_refused(place: Any, scheme: Any, name_hash: str):
    public = public_area(place.tpm.ak.public_key(), scheme=scheme, name_hash=name_hash)
    word = AkTrust(parse_key(public).name, RootClass.CLOUD, "test")
    assert failed(place.judge(quoted(place, place.tpm.ak, public), vouched=word)) == {"tpm.ak.scheme"}


def test_a_signature_with_sha_1_is_refused(place: Any):
    sha1 = quoted(place, place.tpm.ak, place.tpm.ak_public, name_of="sha1")
    assert failed(place.judge(sha1)) == {"tpm.quote.scheme"}


@pytest.mark.parametrize("scheme", [structures.RSASSA, structures.RSAPSS])
def test_rsa_keys_sign_with_both_paddings(place: Any, scheme: int):
    key = rsa.generate_private_key(65537, 2048)
    public = public_area(key.public_key(), scheme=(scheme, "sha384"))
    quote = quoted(place, key, public, name_of="sha384", scheme=scheme, digest="sha384")
    word = AkTrust(parse_key(public).name, RootClass.CLOUD, "test")
    assert place.judge(quote, vouched=word).holds
    other = structures.RSASSA if scheme == structures.RSAPSS else structures.RSAPSS
    wrong = quoted(place, key, public, name_of="sha384", scheme=other, digest="sha384")
    assert failed(place.judge(wrong, vouched=word)) == {"tpm.quote.scheme"}


def test_keys_on_p384_sign_too_and_short_rsa_keys_do_not_count(place: Any):
    key = ec.generate_private_key(ec.SECP384R1())
    public = public_area(key.public_key(), scheme=(structures.ECDSA, "sha384"))
    quote = quoted(place, key, public, name_of="sha384", digest="sha384")
    assert place.judge(quote, vouched=named(key.public_key(), scheme=(structures.ECDSA, "sha384"))).holds
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 (that is the point)
    public = public_area(short.public_key(), scheme=(structures.RSASSA, "sha256"))
    word = AkTrust(parse_key(public).name, RootClass.CLOUD, "test")
    assert failed(place.judge(quoted(place, short, public), vouched=word)) == {"tpm.ak.scheme"}


def test_without_revocation_lists_their_check_is_not_run_and_nothing_is_accepted(place: Any):
    genuine = place.judge(place.good, replace(place.collateral, crls=()))
    (check,) = [check for check in genuine.checks if check.id == "tpm.ak.crl"]
    assert (check.status, check.detail) == (Status.NOT_RUN, NO_CRL)
    assert not genuine.holds


def test_half_of_the_revocation_lists_or_stale_ones_fail(place: Any):
    half = replace(place.collateral, crls=place.collateral.crls[:1])
    assert failed(place.judge(place.good, half)) == {"tpm.ak.crl"}
    assert failed(place.judge(place.good, now=NOW + 31 * 86_400)) == {"tpm.ak.crl"}
    foreign = Tpm(place.maker.generate(now=NOW), NOW).ak_collateral(NOW)
    assert failed(place.judge(place.good, replace(place.collateral, crls=foreign.crls))) == {"tpm.ak.crl"}


def test_a_revoked_ca_fails(place: Any):
    leaf = place.maker.certify_ak(place.tpm.ak.public_key(), NOW)
    revoked = place.maker.collateral(leaf, NOW, revoked=[place.maker.ca.serial_number])
    assert failed(place.judge(place.good, revoked)) == {"tpm.ak.crl"}


def test_expired_and_unborn_certificates_fail(place: Any):
    for now in (NOW - YEAR, NOW + 20 * YEAR):
        genuine = place.judge(place.good, now=now)
        assert failed(genuine) == {"tpm.ak.chain"}
        assert genuine.root_class is None


def test_the_chain_of_another_tpm_is_not_this_keys(place: Any):
    other = Tpm(place.maker, NOW)
    assert failed(place.judge(place.good, other.ak_collateral(NOW))) == {"tpm.ak.certificate"}


def test_an_endorsement_certificate_is_none_of_an_attestation_key(place: Any):
    assert "tpm.ak.chain" in failed(place.judge(place.good, place.tpm.ek_collateral(NOW)))


def test_another_makers_root_or_a_vendors_does_not_vouch(place: Any, other_place: Any):
    quote = read_quote(place.good)
    for anchors in (other_place.anchors, VENDOR_ANCHORS, []):
        genuine = verify(quote, place.collateral, anchors, NOW)
        assert failed(genuine) == {"tpm.anchor"}
        assert genuine.root_class is None


def test_collateral_that_does_not_parse_is_a_failed_check(place: Any):
    for chain in ("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        assert failed(place.judge(place.good, TpmCollateral(chain, ()))) == {"tpm.anchor"}
    assert failed(place.judge(place.good, replace(place.collateral, crls=(b"nonsense",)))) == {"tpm.ak.crl"}
    assert failed(place.judge(place.good, TpmCollateral("", (), b"nonsense"))) == {"tpm.ak.enrolment"}


def test_two_who_vouch_are_one_too_many(place: Any):
    word = AkTrust(parse_key(place.tpm.ak_public).name, RootClass.CLOUD, "test")
    genuine = verify(read_quote(place.good), place.collateral, place.anchors, NOW, vouched=word)
    assert failed(genuine) == {"tpm.ak"}
    assert genuine.root_class is None


def test_a_voucher_vouches_for_one_key_only(place: Any):
    word = AkTrust("000b" + "00" * 32, RootClass.SILICON, "test")
    genuine = place.judge(place.good, vouched=word)
    assert failed(genuine) == {"tpm.ak"}
    assert genuine.root_class is None


def test_the_class_follows_from_who_vouches(place: Any):
    name = parse_key(place.tpm.ak_public).name
    assert place.judge(place.good, vouched=AkTrust(name, RootClass.CLOUD, "x")).root_class is RootClass.CLOUD
    assert {anchor.root_class for anchor in TPM_ROOTS} == {RootClass.CLOUD, RootClass.SILICON}
    assert all(anchor.kind == "tpm" for anchor in TPM_ROOTS)
    assert installation_anchor("tpm", place.maker.root_pem).root_class is RootClass.INSTALLATION


def test_facts_cannot_take_the_place_of_what_the_tpm_said(place: Any):
    name = parse_key(place.tpm.ak_public).name
    facts = {"report_data": "00", "pcr4": "00", "bank": "sha1", "clock_safe": "1", "extra": "kept"}
    claims = place.judge(
        place.tpm.quote(QUALIFYING, (0,), safe=False), vouched=AkTrust(name, RootClass.CLOUD, "x", facts=facts)
    ).claims
    assert claims["report_data"] == QUALIFYING.hex()
    assert claims["bank"] == "sha256"
    assert claims["clock_safe"] == "0"
    assert "pcr4" not in claims
    assert claims["extra"] == "kept"


def google_like(place: Any, production: bool) -> TpmCollateral:  # noqa: FBT001
    """A certificate that names a cloud's machine instead of a purpose."""
    flag = b"\xff" if production else b"\x00"
    inner = b"\xa0\x03\x02\x01\x00" + b"\xa1\x03\x01\x01" + flag
    wrapped = b"\xa0" + bytes([2 + len(inner)]) + b"\x30" + bytes([len(inner)]) + inner
    body = b"\x0c\x01z" + b"\x02\x01\x05" + b"\x0c\x01p" + b"\x02\x01\x06" + b"\x0c\x01i" + wrapped
    value = b"\x30" + bytes([len(body)]) + body
    leaf = place.maker.certify_ak(place.tpm.ak.public_key(), NOW, purpose=None, extra=(INSTANCE, value))
    return place.maker.collateral(leaf, NOW)


def test_a_certificate_that_names_a_clouds_machine_is_one_of_an_attestation_key(place: Any):
    genuine = place.judge(place.good, google_like(place, production=True))
    assert genuine.holds
    assert (genuine.claims["gce_zone"], genuine.claims["gce_project_number"]) == ("z", "5")
    assert failed(place.judge(place.good, google_like(place, production=False))) == {"tpm.ak.certificate"}


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30", b"\x30\x02\x0c", b"\x30\x80", b"\x30\x81\x01a", b"\x30\x03\x0c\x01z", b"\x31\x00", bytes(2000)],
)
def test_an_extension_about_a_machine_of_another_form_is_malformed(data: bytes):
    with pytest.raises(MalformedEvidence):
        parse_instance(data)


def test_an_enrolment_counts_for_no_more_than_its_anchor_admits(place: Any):
    note = enrolled(place.tpm, place.verifier, NOW)
    for admitted in RootClass:
        anchor = enrolment_anchor(place.verifier.public_key(), admitted)
        genuine = verify(read_quote(place.good), note, [anchor], NOW)
        assert genuine.holds
        assert genuine.root_class is RootClass.INSTALLATION  # that of the endorsement key's own root
        assert str(genuine.claims["endorsement"]).startswith("sha256:")
    assert failed(verify(read_quote(place.good), note, [place.anchors[0]], NOW)) == {"tpm.ak.enrolment"}


def test_the_record_has_one_spelling(place: Any):
    data = codec.encode(place.good)
    assert parse_quote(data).attest.extra_data == QUALIFYING
    for changed in (b" " + data, data + b"\n", data.replace(b'","', b'", "', 1)):
        with pytest.raises(MalformedEvidence):
            parse_quote(changed)
