"""Documents of a simulated cloud: each check alone, and the failures that other verifiers are known for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from cryptography import x509 as certificates
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import cbor, cose
from strongroom.crypto.signatures import generate_p256, generate_p384
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import AwsCollateral
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import AWS_NITRO_ROOT, VENDOR_ANCHORS, TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.nitro import parse_document, verify
from strongroom_sim.broken.nitro import Broken, broken
from strongroom_sim.nitro import LEAF_LIFE, Enclave, NitroCloud

NOW = 1_790_000_000
CHECKS = ["nitro.anchor", "nitro.chain", "nitro.crl", "nitro.signature", "nitro.timestamp", "nitro.pcrs"]


def failed(genuine: Genuine) -> set[str]:
    return {check.id for check in genuine.checks if check.status is Status.FAIL}


@pytest.fixture(scope="module")
def cases(place: Any) -> Mapping[str, Broken]:
    return broken(place.cloud, NOW)


def test_a_good_document_is_genuine_under_its_root(place: Any):
    genuine = place.judge(place.enclave.quote(bytes(64), nonce=b"nonce", now=NOW), place.cloud.collateral(NOW))
    assert [check.id for check in genuine.checks] == CHECKS
    assert all_passed(genuine.checks)
    assert genuine.root_class is RootClass.INSTALLATION
    claims = genuine.claims
    assert claims["report_data"] == "00" * 64
    assert claims["nonce"] == b"nonce".hex()
    assert claims["public_key"] == ""
    assert claims["revocation"] == "checked"
    assert (claims["module_id"], claims["instance"]) == (place.enclave.module_id, place.cloud.instance)
    assert claims["pcr0"] == place.enclave.pcrs[0].hex()
    assert claims["pcr15"] == "00" * 48
    assert (claims["age_seconds"], claims["timestamp"]) == (0, 1000 * NOW + 578)


def test_there_is_a_broken_document_for_every_check(cases: Mapping[str, Broken]):
    assert sorted(cases) == sorted(CHECKS)


@pytest.mark.parametrize("identifier", CHECKS)
def test_each_check_fails_alone(place: Any, cases: Mapping[str, Broken], identifier: str):
    case = cases[identifier]
    genuine = place.judge(case.quote, case.collateral, case.now)
    assert [check.id for check in genuine.checks] == CHECKS
    assert failed(genuine) == {identifier}
    assert all(check.detail for check in genuine.checks if check.status is not Status.PASS)


def test_without_a_signature_that_holds_nothing_is_claimed(place: Any, cases: Mapping[str, Broken]):
    for identifier in ("nitro.anchor", "nitro.chain", "nitro.signature"):
        case = cases[identifier]
        claims = place.judge(case.quote, case.collateral, case.now).claims
        assert not {"pcr0", "report_data", "module_id", "age_seconds"} & set(claims)


def test_no_anchor_or_one_of_another_kind_is_no_success(place: Any):
    document = parse_document(place.enclave.quote(bytes(64), now=NOW))
    other_kind = TrustAnchor("tdx", place.anchor.fingerprint, RootClass.SILICON, "the same root for another kind")
    for anchors in ([], [other_kind], [AWS_NITRO_ROOT]):
        genuine = verify(document, None, anchors, NOW)
        assert failed(genuine) == {"nitro.anchor"}
        assert genuine.root_class is None


def test_a_real_root_in_the_bundle_of_a_foreign_chain_helps_nobody(place: Any, other_place: Any):
    bundle = [other_place.cloud.bundle[0], *place.cloud.bundle[1:]]
    genuine = verify(parse_document(place.changed(cabundle=bundle)), None, [other_place.anchor], NOW)
    assert failed(genuine) == {"nitro.chain"}


def test_collateral_with_foreign_root(place: Any, other_place: Any):
    """CRLs of somebody else's hierarchy are no answer, not even beside the right ones."""
    quote = place.enclave.quote(bytes(64), now=NOW)
    foreign = other_place.cloud.collateral(NOW)
    both = AwsCollateral((*place.cloud.collateral(NOW).crls, *foreign.crls))
    for collateral in (foreign, both):
        genuine = place.judge(quote, collateral)
        assert failed(genuine) == {"nitro.crl"}
        assert "revocation" not in genuine.claims


def test_zero_pcrs_accepted(place: Any):
    """A debug enclave is genuine and measures nothing; its zeros are claimed, for every appraisal to refuse."""
    debug = Enclave(place.cloud, place.enclave.pcrs, debug=True)
    genuine = place.judge(debug.quote(bytes(64), now=NOW))
    assert all_passed(genuine.checks)
    assert {genuine.claims[f"pcr{index}"] for index in range(3)} == {"00" * 48}


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_omitted_pcrs_skipped(place: Any, left_out: int):
    """What is left out is a failed check, and nothing is claimed of the registers that are there."""
    pcrs = {index: value for index, value in place.enclave.pcrs.items() if index != left_out}
    genuine = place.judge(place.changed(pcrs=pcrs))
    assert failed(genuine) == {"nitro.pcrs"}
    assert not any(name.startswith("pcr") for name in genuine.claims)


def test_an_omitted_register_that_names_no_image_is_simply_not_claimed(place: Any):
    genuine = place.judge(place.changed(pcrs={index: place.enclave.pcrs[index] for index in range(3)}))
    assert all_passed(genuine.checks)
    assert "pcr8" not in genuine.claims


@pytest.mark.parametrize("size", [32, 64])
def test_a_register_that_is_no_sha384_digest_fails(place: Any, size: int):
    genuine = place.judge(place.changed(pcrs={**place.enclave.pcrs, 8: bytes(size)}))
    assert failed(genuine) == {"nitro.pcrs"}


@pytest.mark.parametrize("algorithm", [cose.Algorithm.ES256, cose.Algorithm.ES512, None])
def test_alg_none_or_other_alg(place: Any, algorithm: cose.Algorithm | None):
    payload = cbor.encode(place.enclave.payload(now=NOW))
    protected = cbor.encode({1: int(algorithm)} if algorithm else {})
    right = cose.parse(place.enclave.sign(place.enclave.payload(now=NOW)))
    genuine = place.judge(cbor.encode([protected, {}, payload, right.signature]))
    assert failed(genuine) == {"nitro.signature"}
    with_p256 = cose.sign(payload, generate_p256(), cose.Algorithm.ES256, tagged=False)
    assert failed(place.judge(with_p256)) == {"nitro.signature"}


@pytest.mark.parametrize("now", [NOW - 60, NOW - 4, NOW + LEAF_LIFE + 1, NOW + 10 * 365 * 86_400])
def test_now_outside_the_leaf(place: Any, now: int):
    genuine = place.judge(place.enclave.quote(bytes(64), now=NOW), None, now)
    assert failed(genuine) == {"nitro.chain"}
    assert genuine.root_class is None


def test_the_leaf_lives_three_hours_and_the_age_is_claimed(place: Any):
    quote = place.enclave.quote(bytes(64), now=NOW)
    for later in (0, 1, LEAF_LIFE):
        assert place.judge(quote, None, NOW + later).claims["age_seconds"] == later
    assert place.judge(quote, None, NOW - 3).claims["age_seconds"] == 0


@pytest.mark.parametrize("seconds", [-60, -4, LEAF_LIFE + 1, 6, 3600])
def test_a_timestamp_outside_the_leaf_or_in_the_future_fails(place: Any, seconds: int):
    genuine = place.judge(place.changed(timestamp=1000 * (NOW + seconds)))
    assert failed(genuine) == {"nitro.timestamp"}
    assert "age_seconds" not in genuine.claims


def test_an_enclave_cannot_speak_for_another(place: Any):
    """Its certificate names it; so does its instance's."""
    neighbour = Enclave(place.cloud, place.enclave.pcrs)
    stranger = "i-00000000000000000-enc0000000000000000"
    for module in (neighbour.module_id, stranger, place.enclave.module_id[:-1], place.cloud.instance):
        assert failed(place.judge(place.changed(module_id=module))) == {"nitro.chain"}


def test_chains_of_two_enclaves_do_not_mix(place: Any, other_place: Any):
    neighbour = Enclave(place.cloud, place.enclave.pcrs)
    payload = place.enclave.payload(now=NOW)
    swapped = place.enclave.sign({**payload, "certificate": neighbour.certificate(NOW)})
    assert failed(place.judge(swapped)) == {"nitro.chain"}
    foreign = place.enclave.sign({**payload, "cabundle": other_place.cloud.bundle})
    assert failed(verify(parse_document(foreign), None, [other_place.anchor], NOW)) == {"nitro.chain"}


@pytest.mark.parametrize(
    "order", [[0], [0, 1], [0, 1, 2], [0, 2, 1, 3], [3, 2, 1, 0], [0, 1, 2, 3, 3], [0, 0, 1, 2, 3]]
)
def test_the_bundle_is_complete_and_in_order(place: Any, order: list[int]):
    bundle = [place.cloud.bundle[index] for index in order]
    assert failed(place.judge(place.changed(cabundle=bundle))) <= {"nitro.chain", "nitro.anchor"}
    assert failed(place.judge(place.changed(cabundle=bundle)))


def test_a_certificate_that_does_not_parse_is_a_failed_check(place: Any):
    bundle = place.cloud.bundle
    assert failed(place.judge(place.changed(certificate=b"\x30\x00"))) == {"nitro.chain"}
    assert failed(place.judge(place.changed(cabundle=[b"\x30\x00", *bundle[1:]]))) == {"nitro.anchor"}
    assert failed(place.judge(place.changed(cabundle=[*bundle[:3], b"\x30\x00"]))) == {"nitro.chain"}


def leaf(place: Any, *, key: Any, subject: str, hash_: Any = None, ca: bool = False) -> bytes:
    """A certificate under the instance's key that says whatever is asked."""
    original = certificates.load_der_x509_certificate(place.enclave.certificate(NOW))
    name = certificates.Name([certificates.NameAttribute(certificates.NameOID.COMMON_NAME, subject)])
    builder = (
        certificates.CertificateBuilder()
        .subject_name(name)
        .issuer_name(original.issuer)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(original.not_valid_before_utc)
        .not_valid_after(original.not_valid_after_utc)
        .add_extension(certificates.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(original.extensions.get_extension_for_class(certificates.KeyUsage).value, critical=False)
    )
    return builder.sign(place.cloud.keys["instance"], hash_ or hashes.SHA384()).public_bytes(Encoding.DER)


def test_a_leaf_of_another_role_curve_or_hash_fails(place: Any):
    """An instance's key may issue for its enclaves only, on P-384 with SHA-384."""
    key, module = generate_p384(), place.enclave.module_id
    good = f"{module}.sim-region-1.aws"
    payload = place.enclave.payload(now=NOW)
    right = leaf(place, key=key.public_key(), subject=good)
    assert all_passed(place.judge(place.enclave.sign({**payload, "certificate": right}, key)).checks)
    wrong = [
        leaf(place, key=key.public_key(), subject=f"{module}.sim-region-1.aws.example"),
        leaf(place, key=key.public_key(), subject=f"x{good}"),
        leaf(place, key=key.public_key(), subject=f"{module[:-1]}.sim-region-1.aws"),
        leaf(place, key=generate_p256().public_key(), subject=good),
        leaf(place, key=key.public_key(), subject=good, hash_=hashes.SHA256()),
        leaf(place, key=key.public_key(), subject=good, ca=True),
    ]
    for certificate in wrong:
        assert failed(place.judge(place.enclave.sign({**payload, "certificate": certificate}, key))) == {"nitro.chain"}


def test_without_crls_there_is_no_check_of_them_and_the_claim_says_so(place: Any):
    quote = place.enclave.quote(bytes(64), now=NOW)
    for collateral in (None, AwsCollateral(())):
        genuine = place.judge(quote, collateral)
        assert "nitro.crl" not in {check.id for check in genuine.checks}
        assert genuine.claims["revocation"] == "none"


@pytest.mark.parametrize("issuers", [("root",), ("region",), ("zone",), ("root", "zone")])
def test_some_crls_are_not_all(place: Any, issuers: tuple[str, ...]):
    genuine = place.judge(place.enclave.quote(bytes(64), now=NOW), place.cloud.collateral(NOW, issuers=issuers))
    assert all_passed(genuine.checks)
    assert genuine.claims["revocation"] == "partly"


@pytest.mark.parametrize("revoked", ["region", "zone", "instance"])
def test_whatever_is_revoked_in_the_path_fails(place: Any, revoked: str):
    crls = place.cloud.collateral(NOW, revoked=(revoked,), issuers=("root", "region", "zone"))
    assert failed(place.judge(place.enclave.quote(bytes(64), now=NOW), crls)) == {"nitro.crl"}


def test_a_crl_that_is_old_changed_or_of_who_may_not_sign_one_fails(place: Any):
    quote = place.enclave.quote(bytes(64), now=NOW)
    good = place.cloud.crl("root", NOW)
    changed = bytearray(good)
    changed[-1] ^= 1
    instance = place.cloud.crl("instance", NOW)
    old, early = place.cloud.crl("root", NOW - 40 * 86_400), place.cloud.crl("root", NOW + 86_400)
    for crl in (bytes(changed), good[:-1], b"", instance, old, early):
        assert failed(place.judge(quote, AwsCollateral((crl,)))) == {"nitro.crl"}
    assert failed(place.judge(quote, AwsCollateral((good,) * 17))) == {"nitro.crl"}


def test_no_changed_byte_of_a_document_is_accepted(place: Any):
    quote = place.enclave.quote(bytes(64), nonce=bytes(32), now=NOW)
    for position in range(0, len(quote), 7):
        changed = bytearray(quote)
        changed[position] ^= 1 << (position % 8)
        try:
            parsed = parse_document(bytes(changed))
        except MalformedEvidence:
            continue
        assert not all_passed(verify(parsed, None, [place.anchor], NOW).checks), position


def test_the_vendors_root_is_of_class_cloud_and_an_installations_never():
    assert AWS_NITRO_ROOT in VENDOR_ANCHORS
    assert AWS_NITRO_ROOT.root_class is RootClass.CLOUD
    cloud = NitroCloud.create(now=NOW)
    assert installation_anchor("nitro", cloud.root_pem).root_class is RootClass.INSTALLATION
    assert repr(cloud) == f"NitroCloud({cloud.instance})"
