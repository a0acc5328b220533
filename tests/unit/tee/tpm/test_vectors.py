"""Real evidence and its verdict: file, what is expected, what was found."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence
from strongroom.records import codec
from strongroom.records.evidence import TpmCollateral
from strongroom.records.tpm import TpmQuote
from strongroom.records.verdict import RootClass, Status
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.tpm import (
    AkTrust,
    parse_key,
    parse_quote,
    read_attestation,
    read_coco,
    read_quote,
    read_tpm2_tools,
    verify,
)
from strongroom.tee.tpm.instance import instance_of

from .conftest import failed

NOW = 1_700_000_000
pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length must be")  # names in Google's older certificates

COS = "gce_cos85_nonce9009.attestation.pb"
NO_NONCE = "gce_cos85_no_nonce.attestation.pb"
COCO = "coco_tpm_evidence.json"
KEYLIME = "keylime/quote.out"


def go_quote(bank: str) -> Callable[[Path, str], TpmQuote]:
    def read(vectors: Path, name: str) -> TpmQuote:
        found = read_attestation((vectors / name).read_bytes())
        assert found is not None
        return found.quotes[bank]

    return read


def coco_quote(vectors: Path, name: str) -> TpmQuote:
    return read_coco(json.loads((vectors / name).read_text()))


def keylime_quote(vectors: Path, _: str) -> TpmQuote:
    parts = [
        (vectors / "keylime" / name).read_bytes() for name in ("quote.out", "quotesig.out", "quotepcr.out", "ak.pub")
    ]
    return read_tpm2_tools(*parts)


# file, how it is read, what fails as it comes, what fails where somebody vouches for its key, what it binds
CASES = [
    (COS, go_quote("sha256"), {"tpm.ak"}, set(), "9009"),
    (COS, go_quote("sha384"), {"tpm.ak"}, set(), "9009"),
    (COS, go_quote("sha1"), {"tpm.ak", "tpm.pcrs.bank"}, {"tpm.pcrs.bank"}, "9009"),
    (NO_NONCE, go_quote("sha256"), {"tpm.ak"}, set(), ""),
    (NO_NONCE, go_quote("sha384"), {"tpm.ak"}, set(), ""),
    (NO_NONCE, go_quote("sha1"), {"tpm.ak", "tpm.pcrs.bank"}, {"tpm.pcrs.bank"}, ""),
    (COCO, coco_quote, {"tpm.ak"}, set(), None),
    (KEYLIME, keylime_quote, {"tpm.ak"}, set(), "db1db298db6d60e6385b7231743e9c3056a18003"),
]


def vouched(quote: TpmQuote) -> Genuine:
    word = AkTrust(parse_key(quote.ak).name, RootClass.CLOUD, "test", restricted=True)
    return verify(read_quote(quote), None, VENDOR_ANCHORS, NOW, vouched=word)


@pytest.mark.parametrize(("name", "read", "alone", "with_voucher", "bound"), CASES)
def test_a_real_quote_has_its_stated_outcome(
    vectors: Path, name: str, read: Any, alone: set[str], with_voucher: set[str], bound: str | None
):
    quote = read(vectors, name)
    genuine = verify(read_quote(quote), None, VENDOR_ANCHORS, NOW)
    assert (name, failed(genuine)) == (name, alone)
    assert genuine.claims == {}
    trusted = vouched(quote)
    assert (name, failed(trusted)) == (name, with_voucher)
    assert trusted.holds is not bool(with_voucher)
    assert bound is None or trusted.claims["report_data"] == bound
    assert ("pcr0" in trusted.claims) is (not with_voucher and name != KEYLIME)


def test_google_certifies_the_key_of_the_real_quote_and_its_machine(vectors: Path):
    """The intermediate certificate is not among the vectors, so the path ends early: refused, and said so."""
    found = read_attestation((vectors / COS).read_bytes())
    assert found is not None
    leaf = x509.load_certificate(found.certificates[0])
    facts = instance_of(leaf)
    assert facts["gce_zone"] == "us-central1-a"
    assert facts["gce_production"] == "1"
    assert facts["gce_instance_id"] == "6797026933021542085"
    collateral = TpmCollateral(leaf.public_bytes(Encoding.PEM).decode(), ())
    genuine = verify(read_quote(found.quote), collateral, VENDOR_ANCHORS, NOW)
    assert failed(genuine) == {"tpm.anchor"}
    assert genuine.root_class is None


def test_a_leaf_that_is_called_an_anchor_is_no_path(vectors: Path):
    found = read_attestation((vectors / COS).read_bytes())
    assert found is not None
    leaf = x509.load_certificate(found.certificates[0])
    anchor = TrustAnchor("tpm", x509.certificate_digest(leaf), RootClass.SILICON, "a leaf")
    collateral = TpmCollateral(leaf.public_bytes(Encoding.PEM).decode(), ())
    assert failed(verify(read_quote(found.quote), collateral, [anchor], NOW)) == {"tpm.ak.chain"}


def test_the_name_of_a_real_key_is_the_one_that_its_tpm_computed(vectors: Path):
    key = parse_key((vectors / "keylime/ak.pub").read_bytes())
    assert key.name == (vectors / "keylime/ak.name").read_bytes().hex()
    from cryptography.hazmat.primitives.serialization import PublicFormat

    pem = key.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert pem.split() == (vectors / "keylime/akpub.pem").read_bytes().split()


def test_a_real_endorsement_key_is_one_that_credentials_can_be_made_for(vectors: Path):
    from strongroom.tee.tpm.credential import make_credential

    ek = parse_key((vectors / "keylime/ek.pub").read_bytes())
    ak = parse_key((vectors / "keylime/ak.pub").read_bytes())
    made = make_credential(ek, ak.name, bytes(32))
    assert len(made.secret) == 256
    assert len(made.blob) == 2 + 32 + 2 + 32


def test_a_real_chain_of_device_identities_parses_and_links(vectors: Path):
    data = (vectors / "keylime/iak_idevid_chain.pem").read_text()
    intermediate, root = x509.load_chain(data)
    assert x509.common_name(root) == "Isaac HPE Root CA"
    intermediate.verify_directly_issued_by(root)


def test_a_key_in_a_credential_is_not_the_key_of_another_quote(vectors: Path):
    """The quote of one machine with the key of another: the signature decides."""
    mixed = replace(keylime_quote(vectors, ""), ak=go_quote("sha256")(vectors, COS).ak)
    assert failed(vouched(mixed)) == {"tpm.quote.signature"}


def test_values_of_another_boot_are_not_those_that_were_quoted(vectors: Path):
    quote = go_quote("sha256")(vectors, COS)
    pcrs = {"sha256": {**quote.pcrs["sha256"], "4": "00" * 32}}
    genuine = vouched(replace(quote, pcrs=pcrs))
    assert failed(genuine) == {"tpm.pcrs.digest"}
    assert "pcr0" not in genuine.claims


def test_no_flipped_bit_in_real_evidence_is_accepted(vectors: Path):
    quote = go_quote("sha256")(vectors, COS)
    word = AkTrust(parse_key(quote.ak).name, RootClass.CLOUD, "test")
    for part in ("attest", "signature", "ak"):
        data = getattr(quote, part)
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 1 << (position % 8)
            try:
                parsed = read_quote(replace(quote, **{part: bytes(changed)}))
            except MalformedEvidence:
                continue
            genuine = verify(parsed, None, VENDOR_ANCHORS, NOW, vouched=word)
            assert not genuine.holds, (part, position)


def test_no_flipped_bit_in_the_record_of_real_evidence_is_accepted(vectors: Path):
    quote = go_quote("sha256")(vectors, COS)
    word = AkTrust(parse_key(quote.ak).name, RootClass.CLOUD, "test")
    data = codec.encode(quote)
    for position in range(0, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 7)
        try:
            parsed = parse_quote(bytes(changed))
        except MalformedEvidence:
            continue
        assert not verify(parsed, None, VENDOR_ANCHORS, NOW, vouched=word).holds, position


def test_the_attester_of_a_real_quote_is_a_key_of_the_endorsement_hierarchy(vectors: Path):
    quote = read_quote(go_quote("sha256")(vectors, COS))
    assert quote.ak.qualified_name(0x4000000B) == quote.attest.qualified_signer


def test_real_quotes_of_paravisors_hold_under_their_keys(vectors: Path):
    """Azure's evidence keeps the key in its runtime claims, bare; whose word that is, another verifier says."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import PublicFormat

    from strongroom.tee.tpm import read_raw_quote

    for name in ("snp_milan_evidence_v1", "snp_milan_evidence_v2", "tdx_evidence_v1"):
        document = json.loads((vectors.parent / "azure-vtpm" / f"{name}.json").read_text())
        report = base64.urlsafe_b64decode(document["hcl_report"] + "==")
        runtime = json.loads(report[report.index(b'{"keys"') :].split(b"\0")[0])
        jwk = next(key for key in runtime["keys"] if key["kid"] == "HCLAkPub")
        e, n = (int.from_bytes(base64.urlsafe_b64decode(jwk[part] + "=="), "big") for part in ("e", "n"))
        spki = rsa.RSAPublicNumbers(e, n).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        quote = read_raw_quote(document["tpm_quote"], public=spki)
        assert failed(verify(read_quote(quote), None, VENDOR_ANCHORS, NOW)) == {"tpm.ak"}, name
        trusted = vouched(quote)
        assert trusted.holds, name
        assert sum(register.startswith("pcr") for register in trusted.claims) == 24
        unsaid = AkTrust(parse_key(spki).name, RootClass.CLOUD, "test")
        without = verify(read_quote(quote), None, VENDOR_ANCHORS, NOW, vouched=unsaid)
        assert [c.id for c in without.checks if c.status is Status.FAIL] == ["tpm.ak.attributes"]
