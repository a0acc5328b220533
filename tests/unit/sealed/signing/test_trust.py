"""Trust in certificates: who it believes, and each reason not to."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from certified import AT, CODE, START, Holder, authority, certify, person, usage
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.crypto import signatures
from strongroom.errors import MalformedArtifact, SignatureInvalid, StrongroomError, UsageError
from strongroom.sealed.signing import (
    CertifiedSigner,
    KeySigner,
    SignedFiles,
    TrustedRoots,
    load_certificates,
    sign_files,
    verify_files,
)

FILES = SignedFiles("little", "sha256", {"a/b": "11" * 32, "c": "33" * 32})
ROOT = authority()
MIDDLE = authority("Middle", ROOT)
ANNA = person("Anna", MIDDLE)


def signed(holder: Holder, *above: Holder) -> bytes:
    chain = [holder.certificate, *(each.certificate for each in above)]
    return sign_files(FILES, CertifiedSigner(KeySigner(holder.key), chain))


def forced(holder: Holder, *above: Holder) -> bytes:
    """A bundle of somebody who does not ask whether the certificate may sign."""
    signer = KeySigner(holder.key)
    signer.certificates = tuple(each.certificate.public_bytes(Encoding.DER) for each in (holder, *above))
    return sign_files(FILES, signer)


def trust(root: Holder = ROOT, subject: str = "Anna", at: int = AT) -> TrustedRoots:
    return TrustedRoots((root.certificate,), subject, at)


CURVES = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_who_is_named_is_believed_on_each_curve(curve: Any):
    root = authority(key=ec.generate_private_key(curve))
    anna = person("Anna", root, key=ec.generate_private_key(curve))
    assert verify_files(signed(anna), trust(root)) == FILES


def test_a_path_is_found_whatever_else_the_bundle_brings():
    stranger = authority("Stranger")
    bundle = signed(ANNA, ROOT, stranger, MIDDLE)
    assert verify_files(bundle, trust()) == FILES
    assert verify_files(bundle, trust(MIDDLE)) == FILES, "who names a CA in the middle trusts that"


def test_an_rsa_root_and_one_that_states_no_usage_may_issue():
    root = authority(key=rsa.generate_private_key(65537, 2048), key_usage=None)
    assert verify_files(signed(person("Anna", root)), trust(root)) == FILES


def test_a_certificate_itself_may_be_the_root():
    alone = certify("Anna", key_usage=usage())
    assert verify_files(signed(alone), trust(alone)) == FILES


def test_a_single_certificate_is_a_chain_of_one():
    bundle = json.loads(signed(person("Anna", ROOT)))
    (only,) = bundle["verificationMaterial"].pop("x509CertificateChain")["certificates"]
    bundle["verificationMaterial"]["certificate"] = only
    assert verify_files(json.dumps(bundle), trust()) == FILES


NAMES = [
    x509.RFC822Name("anna@example.org"),
    x509.UniformResourceIdentifier("https://example.org/anna"),
    x509.DNSName("anna.example.org"),
]


@pytest.mark.parametrize(
    "subject",
    ["Anna", "email:anna@example.org", "uri:https://example.org/anna", "dns:anna.example.org", "dn:O=Tests,CN=Anna"],
)
def test_a_name_of_any_kind_names(subject: str):
    bundle = signed(person("Anna", ROOT, others=NAMES, critical=True))
    assert verify_files(bundle, trust(subject=subject)) == FILES


@pytest.mark.parametrize(
    "subject",
    [
        "Ann",
        "anna",
        "email:Anna",
        "uri:anna@example.org",
        "dns:example.org",
        "dn:CN=Anna",
        "anna.example.org",
        "email:",
    ],
)
def test_another_name_is_somebody_else(subject: str):
    bundle = signed(person("Anna", ROOT, others=NAMES))
    with pytest.raises(SignatureInvalid, match="somebody else"):
        verify_files(bundle, trust(subject=subject))


def test_a_missing_link_another_root_and_another_moment_are_refused():
    bundle = signed(ANNA, MIDDLE)
    assert verify_files(bundle, trust()) == FILES
    after, before = int((START + timedelta(days=366)).timestamp()), int(START.timestamp()) - 1
    for wrong in (trust(authority()), trust(authority("Other")), trust(at=after), trust(at=before)):
        with pytest.raises(SignatureInvalid):
            verify_files(bundle, wrong)
    with pytest.raises(SignatureInvalid, match="leads to none"):
        verify_files(signed(ANNA), trust())


def test_a_root_of_the_same_name_does_not_hide_the_right_one():
    both = TrustedRoots((authority().certificate, ROOT.certificate), "Anna", AT)
    assert verify_files(signed(ANNA, MIDDLE), both) == FILES


def test_an_expired_certificate_in_the_middle_is_refused():
    middle = authority("Middle", ROOT, days=30)
    with pytest.raises(SignatureInvalid, match="valid from"):
        verify_files(signed(person("Anna", middle), middle), trust())


REFUSED = {
    "a key that does not sign": {"key_usage": usage(signs=False)},
    "a purpose that is another": {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)},
    "no purpose at all": {"key_usage": None, "purposes": ()},
    "a CA": {"ca": True, "key_usage": usage(issues=True)},
    "an RSA key": {"key": rsa.generate_private_key(65537, 2048)},
    "another curve": {"key": ec.generate_private_key(ec.SECP256K1())},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED.keys())
def test_a_certificate_that_may_not_sign_models_is_refused(options: Any):
    wrong = person("Anna", ROOT, **options)
    of_ours = "key" not in options
    with pytest.raises(SignatureInvalid):
        verify_files(forced(wrong if of_ours else replace(wrong, key=ANNA.key)), trust())


@pytest.mark.parametrize(
    "options", [{"purposes": ()}, {"key_usage": None}, {"purposes": (*CODE, ExtendedKeyUsageOID.CLIENT_AUTH)}]
)
def test_either_purpose_is_enough(options: Any):
    assert verify_files(signed(person("Anna", ROOT, **options)), trust()) == FILES


def test_a_ca_for_other_purposes_certifies_no_signer():
    middle = authority("Middle", ROOT, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))
    with pytest.raises(SignatureInvalid, match="not for signing code"):
        verify_files(signed(person("Anna", middle), middle), trust())


def test_who_is_no_ca_certifies_nobody():
    middle = person("Middle", ROOT)
    with pytest.raises(SignatureInvalid):
        verify_files(forced(person("Anna", middle), middle), trust())


def test_a_certificate_of_another_key_proves_nothing():
    with pytest.raises(SignatureInvalid, match="no trusted key"):
        verify_files(forced(replace(ANNA, key=signatures.generate_p256()), MIDDLE), trust())


def test_a_key_alone_has_no_name():
    with pytest.raises(SignatureInvalid, match="no certificate"):
        verify_files(sign_files(FILES, ANNA.key), trust())
    assert verify_files(signed(ANNA, MIDDLE), ANNA.key.public_key()) == FILES, "who knows the key needs no certificate"


def test_many_cas_of_one_name_cost_little():
    twins = [authority("Middle", ROOT) for _ in range(7)]
    with pytest.raises(SignatureInvalid):
        verify_files(signed(ANNA, *twins), trust())


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED.keys())
def test_nobody_signs_under_a_certificate_that_is_refused_later(options: Any):
    wrong = person("Anna", ROOT, **{"key": ANNA.key, **options})
    with pytest.raises(UsageError, match=r"certificate('s key)? (is not|does not|is a CA's)"):
        CertifiedSigner(KeySigner(ANNA.key), [wrong.certificate])


def test_a_chain_begins_with_the_signers_own_certificate():
    for chain in ([], [MIDDLE.certificate, ANNA.certificate], [ANNA.certificate] * 9):
        with pytest.raises(UsageError):
            CertifiedSigner(KeySigner(ANNA.key), chain)


@pytest.mark.parametrize(
    ("roots", "subject"), [((), "Anna"), ((ROOT.certificate,), ""), ((ROOT.certificate,) * 65, "Anna")]
)
def test_trust_names_roots_and_somebody(roots: Any, subject: str):
    with pytest.raises(UsageError):
        TrustedRoots(roots, subject, AT)


MATERIAL = {
    "nothing": {},
    "two ways": {"publicKey": {"hint": "x"}, "certificate": {"rawBytes": ""}},
    "a key that is a list": {"publicKey": []},
    "a hint that is a number": {"publicKey": {"hint": 1}},
    "an empty chain": {"x509CertificateChain": {"certificates": []}},
    "a chain that is a list": {"x509CertificateChain": []},
    "a long chain": {"x509CertificateChain": {"certificates": [{"rawBytes": "AA=="}] * 9}},
    "a certificate that is a text": {"certificate": "AA=="},
    "not base64": {"certificate": {"rawBytes": "%"}},
    "base64 with spare bits": {"certificate": {"rawBytes": "AB=="}},
    "too long": {"certificate": {"rawBytes": "A" * 40_000}},
    "not a certificate": {"certificate": {"rawBytes": "AAAA"}},
}


@pytest.mark.parametrize("material", MATERIAL.values(), ids=MATERIAL.keys())
def test_material_of_another_shape_is_malformed(material: Any):
    bundle = {**json.loads(signed(ANNA, MIDDLE)), "verificationMaterial": material}
    with pytest.raises(MalformedArtifact):
        verify_files(json.dumps(bundle), trust())


def test_a_flipped_bit_anywhere_in_a_certificate_is_refused():
    good = json.loads(signed(person("Anna", ROOT)))
    entry = good["verificationMaterial"]["x509CertificateChain"]["certificates"][0]
    der = base64.b64decode(entry["rawBytes"])
    for at in range(0, len(der), 7):
        changed = bytearray(der)
        changed[at] ^= 1
        entry["rawBytes"] = base64.b64encode(changed).decode()
        with pytest.raises(StrongroomError):
            verify_files(json.dumps(good), trust())


def test_certificates_are_read_from_pem_and_nothing_else():
    assert load_certificates(ANNA.pem + MIDDLE.pem) == (ANNA.certificate, MIDDLE.certificate)
    for wrong in (b"", b"text\n" + ANNA.pem, signatures.private_to_pem(ANNA.key), ANNA.pem * 9):
        with pytest.raises(MalformedArtifact):
            load_certificates(wrong)


def test_a_common_name_that_stands_twice_names_nobody():
    twice = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Anna"), x509.NameAttribute(NameOID.COMMON_NAME, "Berta")]
    )
    key = signatures.generate_p256()
    builder = x509.CertificateBuilder().subject_name(twice).issuer_name(ROOT.certificate.subject)
    builder = builder.public_key(key.public_key()).serial_number(7).not_valid_before(START)
    builder = builder.not_valid_after(START + timedelta(days=365)).add_extension(usage(), critical=True)
    certificate = builder.sign(ROOT.key, hashes.SHA256())
    with pytest.raises(SignatureInvalid, match="somebody else"):
        verify_files(signed(Holder(key, certificate)), trust())
