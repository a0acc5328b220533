"""Certificate paths and CRLs: every link, every role, every date; and OpenSSL as a peer."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as certificates
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, SignatureInvalid

NOW = 1_790_000_000
DAY = 86_400
ROLES = ({"leaf"}, {"ca"})
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "ca", "leaf", "other")}


def name_of(common_name: str, kind: _ASN1Type = _ASN1Type.UTF8String) -> certificates.Name:
    return certificates.Name([certificates.NameAttribute(NameOID.COMMON_NAME, common_name, _type=kind)])


def when(offset: int) -> datetime:
    return datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=offset)


def make(
    subject: str,
    issuer: str,
    *,
    signer: str | None = None,
    key: Any = None,
    ca: bool = False,
    pathlen: int | None = None,
    sign_usage: bool | None = None,
    start: int = -DAY,
    end: int = DAY,
    extra: certificates.UnrecognizedExtension | None = None,
    basic: bool = True,
    usage: bool = True,
    algorithm: hashes.HashAlgorithm | None = None,
    spelling: _ASN1Type = _ASN1Type.UTF8String,
) -> certificates.Certificate:
    issues = ca if sign_usage is None else sign_usage
    builder = (
        certificates.CertificateBuilder()
        .subject_name(name_of(subject, spelling))
        .issuer_name(name_of(issuer))
        .public_key((key or KEYS[subject]).public_key())
        .serial_number(certificates.random_serial_number())
        .not_valid_before(when(start))
        .not_valid_after(when(end))
    )
    if basic:
        builder = builder.add_extension(certificates.BasicConstraints(ca=ca, path_length=pathlen), critical=True)
    if usage:
        builder = builder.add_extension(
            certificates.KeyUsage(
                digital_signature=not issues,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=issues,
                crl_sign=issues,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    return builder.sign(KEYS[signer or issuer], algorithm or hashes.SHA256())


ROOT = make("root", "root", ca=True, pathlen=1)
CA = make("ca", "root", ca=True, pathlen=0)
LEAF = make("leaf", "ca")
PIN = x509.certificate_digest(ROOT)
UNKNOWN = certificates.UnrecognizedExtension(certificates.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")


def pem(*chain: certificates.Certificate) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)


def check(
    *chain: certificates.Certificate, roles: Any = ROLES, now: int = NOW, pin: Any = PIN
) -> certificates.Certificate:
    return x509.check_path(chain, root=pin, roles=roles, now=now)


def crl(issuer: str = "ca", signer: str | None = None, *, revoked: tuple[int, ...] = (), **change: Any) -> Any:
    builder = (
        certificates.CertificateRevocationListBuilder()
        .issuer_name(name_of(issuer))
        .last_update(when(change.get("start", -DAY)))
        .next_update(when(change.get("end", DAY)))
    )
    if change.get("critical"):
        builder = builder.add_extension(certificates.CRLNumber(1), critical=True)
    for serial in revoked:
        entry = certificates.RevokedCertificateBuilder().serial_number(serial).revocation_date(when(0)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(KEYS[signer or issuer], change.get("algorithm", hashes.SHA256()))


def test_a_path_from_the_pinned_root_to_the_leaf_holds():
    assert check(LEAF, CA, ROOT) == LEAF
    assert check(*x509.load_chain(pem(LEAF, CA, ROOT))) == LEAF


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ((LEAF, CA), "2 certificates"),
        ((LEAF, ROOT), "2 certificates"),
        ((LEAF, CA, CA, ROOT), "4 certificates"),
        ((), "0 certificates"),
        ((ROOT, CA, LEAF), "trusted root"),
        ((LEAF, CA, make("root", "root", ca=True)), "trusted root"),
        ((CA, LEAF, ROOT), "not issued"),
        ((make("leaf", "ca", signer="other"), CA, ROOT), "not issued"),
        ((make("leaf", "root"), CA, ROOT), "not issued"),
        ((LEAF, make("ca", "root", ca=True, spelling=_ASN1Type.PrintableString), ROOT), "not issued"),
        ((LEAF, make("ca", "root", signer="other", ca=True), ROOT), "not issued"),
        ((LEAF, make("ca", "root", ca=True, end=-1), ROOT), "valid from"),
        ((make("leaf", "ca", start=1), CA, ROOT), "valid from"),
        ((make("leaf", "ca", end=-1), CA, ROOT), "valid from"),
        ((LEAF, make("ca", "root", ca=False, sign_usage=True), ROOT), "may not issue"),
        ((LEAF, make("ca", "root", ca=True, sign_usage=False), ROOT), "may not issue"),
        ((LEAF, make("ca", "root", basic=False, sign_usage=True), ROOT), "no CA"),
        ((LEAF, make("ca", "root", ca=True, usage=False), ROOT), "what its key is for"),
        ((LEAF, make("ca", "root", ca=True, extra=UNKNOWN), ROOT), "not understood"),
        ((make("leaf", "ca", extra=UNKNOWN), CA, ROOT), "not understood"),
        ((make("leaf", "ca", usage=False), CA, ROOT), "what its key is for"),
        ((make("leaf", "ca", sign_usage=True), CA, ROOT), "may not sign"),
        ((make("leaf", "ca", ca=True, sign_usage=False), CA, ROOT), "is a CA"),
        ((make("leaf", "ca", algorithm=hashes.SHA384()), CA, ROOT), "ECDSA on P-256 with SHA-256"),
        ((make("leaf", "ca", key=ec.generate_private_key(ec.SECP384R1())), CA, ROOT), "P-256"),
        ((make("other", "ca"), CA, ROOT), "'other' stands where leaf should"),
        ((LEAF, make("other", "root", ca=True), ROOT), "'other' stands where ca should"),
    ],
)
def test_a_path_with_one_broken_link_is_refused(chain: tuple[certificates.Certificate, ...], reason: str):
    with pytest.raises(SignatureInvalid, match=reason):
        check(*chain)


def test_the_root_may_not_issue_a_longer_path_than_it_says():
    short = make("root", "root", ca=True, pathlen=0)
    with pytest.raises(SignatureInvalid, match="so long a path"):
        check(LEAF, CA, short, pin=x509.certificate_digest(short))


@pytest.mark.parametrize(("offset", "holds"), [(-DAY, True), (DAY, True), (-DAY - 1, False), (DAY + 1, False)])
def test_validity_includes_its_first_and_last_second(offset: int, holds: bool):  # noqa: FBT001
    if holds:
        check(LEAF, CA, ROOT, now=NOW + offset)
    else:
        with pytest.raises(SignatureInvalid):
            check(LEAF, CA, ROOT, now=NOW + offset)


def test_a_certificate_with_two_common_names_has_no_role():
    names = [certificates.NameAttribute(NameOID.COMMON_NAME, name) for name in ("leaf", "leaf")]
    subject = certificates.Name(names)
    double = (
        certificates.CertificateBuilder(subject_name=subject, issuer_name=name_of("ca"))
        .public_key(KEYS["leaf"].public_key())
        .serial_number(1)
        .not_valid_before(when(-1))
        .not_valid_after(when(1))
        .sign(KEYS["ca"], hashes.SHA256())
    )
    assert x509.common_name(double) == ""
    with pytest.raises(SignatureInvalid, match="stands where"):
        check(double, CA, ROOT)


def test_a_good_crl_holds_and_lists_only_what_it_lists():
    x509.check_crl(crl(), issuer=CA, now=NOW)
    x509.check_not_revoked(LEAF, crl(revoked=(1, 2, 3)))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (crl(signer="other"), "does not hold"),
        (crl("root"), "is not of"),
        (crl(end=-1), "holds from"),
        (crl(start=1), "holds from"),
        (crl(critical=True), "not understood"),
        (crl(algorithm=hashes.SHA384()), "SHA-256"),
    ],
)
def test_a_bad_crl_is_refused(found: Any, reason: str):
    with pytest.raises(SignatureInvalid, match=reason):
        x509.check_crl(found, issuer=CA, now=NOW)


def test_only_who_may_sign_crls_can():
    with pytest.raises(SignatureInvalid, match="may not sign CRLs"):
        x509.check_crl(crl(), issuer=make("ca", "root", ca=True, sign_usage=False), now=NOW)


def test_a_listed_certificate_is_revoked():
    with pytest.raises(SignatureInvalid, match="revoked"):
        x509.check_not_revoked(LEAF, crl(revoked=(7, LEAF.serial_number)))


def test_a_crl_says_nothing_about_another_issuers_certificates():
    with pytest.raises(SignatureInvalid, match="issuer"):
        x509.check_not_revoked(CA, crl())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "x" + pem(LEAF),
        pem(LEAF) + "x",
        pem(LEAF) + " ",
        pem(LEAF)[:-2],
        pem(LEAF).replace("\n", "\r\n"),
        pem(LEAF).replace("CERTIFICATE", "X509 CRL"),
        pem(LEAF).replace("MII", "MIJ", 1),
        pem(LEAF, CA, ROOT, LEAF, CA),
        pem(LEAF) * 40,
        "é" + pem(LEAF),
    ],
)
def test_a_text_that_is_not_just_certificates_is_unreadable(text: str):
    for form in (text, text.encode()):
        with pytest.raises(MalformedEvidence):
            x509.load_chain(form)


def test_base64_with_spare_bits_set_is_unreadable():
    text = pem(LEAF)
    end = text.index("=\n") if "=\n" in text else None
    if end is None:
        padded = text.replace("-----END", "=\n-----END")
        with pytest.raises(MalformedEvidence):
            x509.load_chain(padded)
        return
    before = text[end - 1] if text[end - 1] != "=" else text[end - 2]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    position = text.rindex(before, 0, end)
    changed = text[:position] + alphabet[alphabet.index(before) ^ 1] + text[position + 1 :]
    with pytest.raises(MalformedEvidence):
        x509.load_chain(changed)


def test_der_with_a_byte_too_many_is_unreadable():
    for der, load in (
        (LEAF.public_bytes(Encoding.DER), x509.load_certificate),
        (crl().public_bytes(Encoding.DER), x509.load_crl),
    ):
        load(der)
        for changed in (der + b"\0", der[:-1], b""):
            with pytest.raises(MalformedEvidence):
                load(changed)


def test_an_oversize_crl_is_refused_before_it_is_read():
    with pytest.raises(MalformedEvidence, match="limit"):
        x509.load_crl(bytes(x509.MAX_CRL_BYTES + 1))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_changed_certificate_never_makes_a_path(data: st.DataObject):
    der = bytearray(LEAF.public_bytes(Encoding.DER))
    position = data.draw(st.integers(0, len(der) - 1))
    der[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = x509.load_certificate(bytes(der))
        check(changed, CA, ROOT)
    except (MalformedEvidence, SignatureInvalid):
        return
    pytest.fail(f"byte {position}")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")
@pytest.mark.parametrize(
    ("leaf", "revoked"),
    [
        (LEAF, ()),
        (LEAF, (LEAF.serial_number,)),
        (make("leaf", "ca", signer="other"), ()),
        (make("leaf", "ca", end=-1), ()),
    ],
)
def test_openssl_is_of_the_same_opinion(tmp_path: Path, leaf: certificates.Certificate, revoked: tuple[int, ...]):
    files = {"leaf": pem(leaf), "ca": pem(CA), "root": pem(ROOT)}
    lists = crl(revoked=revoked).public_bytes(Encoding.PEM) + crl("root").public_bytes(Encoding.PEM)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "crls").write_bytes(lists)
    words = ["openssl", "verify", "-attime", str(NOW), "-crl_check_all", "-CRLfile", "crls", "-CAfile", "root"]
    theirs = subprocess.run([*words, "-untrusted", "ca", "leaf"], cwd=tmp_path, capture_output=True, check=False)
    try:
        ours = check(leaf, CA, ROOT) is leaf
        x509.check_not_revoked(leaf, crl(revoked=revoked))
    except SignatureInvalid:
        ours = False
    assert ours is (theirs.returncode == 0)


def test_a_signature_has_one_spelling():
    leaf = next(found for found in (make("leaf", "ca") for _ in range(64)) if not found.signature[-1] & 1)
    der = bytearray(leaf.public_bytes(Encoding.DER))
    assert der[-len(leaf.signature) - 1] == 0
    der[-len(leaf.signature) - 1] = 1
    with pytest.raises(MalformedEvidence):
        x509.load_certificate(bytes(der))


def element(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content


@pytest.mark.parametrize(("inner", "holds"), [("2a8648ce3d040302", True), ("2a8648ce3d040303", False)])
def test_what_is_signed_names_the_algorithm_that_is_named_beside_it(inner: str, holds: bool):  # noqa: FBT001
    outer = bytes.fromhex("2a8648ce3d040302")
    signed = LEAF.tbs_certificate_bytes.replace(outer, bytes.fromhex(inner), 1)
    signature = KEYS["ca"].sign(signed, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes([0x30, len(outer) + 2, 6, len(outer)]) + outer
    bits = bytes([3, len(signature) + 1, 0]) + signature
    leaf = x509.load_certificate(element(0x30, signed, algorithm, bits))
    if holds:
        assert check(leaf, CA, ROOT) is leaf
    else:
        with pytest.raises(SignatureInvalid, match="not issued"):
            check(leaf, CA, ROOT)
