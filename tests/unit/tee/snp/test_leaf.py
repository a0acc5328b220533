"""AMD's extensions: read exactly, refused otherwise; and what real certificates say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as certificates
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence
from strongroom.tee.snp.leaf import ARC, Leaf, parse_leaf

HWID = bytes(range(64))
GOOD: dict[str, bytes] = {
    "1": b"\x02\x01\x00",
    "2": b"\x16\x08Milan-B0",
    **{f"3.{arc}": bytes((2, 1, arc)) for arc in range(1, 8)},
    "3.8": b"\x02\x02\x00\xdb",
    "4": HWID,
}


class Fake:
    """A certificate with nothing but extensions of AMD's."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        oids = {certificates.ObjectIdentifier(f"{ARC}.{member}"): value for member, value in members.items()}
        self.extensions = certificates.Extensions(
            [
                certificates.Extension(oid, critical=False, value=certificates.UnrecognizedExtension(oid, value))
                for oid, value in oids.items()
            ]
        )


def read(**changed: bytes | None) -> Leaf:
    members = {**GOOD, **{name.replace("_", "."): value for name, value in changed.items()}}
    return parse_leaf(Fake({n: v for n, v in members.items() if v is not None}))  # type: ignore[arg-type]


def member(name: str, value: bytes | None) -> Leaf:
    return read(**{name: value})


def test_a_real_certificate_says_what_openssl_says(vectors: Path):
    vlek = parse_leaf(x509.load_certificate((vectors / "v3_milan_vlek_vmpl1.vlek.der").read_bytes()))
    assert (vlek.product_name, vlek.hwid, vlek.provider) == ("Milan", None, "CN=cc-us-east-2.amazonaws.com")
    assert vlek.tcb("Milan") == bytes.fromhex("04000000000018d9")
    turin = parse_leaf(x509.load_chain((vectors / "v5_turin.vcek.pem").read_bytes())[0])
    assert (turin.product_name, turin.hwid, turin.provider) == ("Turin", bytes.fromhex("59790fb1c39f35c1"), None)
    assert turin.tcb("Turin") == bytes.fromhex("0101010400000051")
    altered = parse_leaf(x509.load_certificate((vectors / "NEG_vcek_wrong_chip_new.der").read_bytes()))
    assert altered.hwid == bytes(range(64))


def test_levels_go_where_the_product_puts_them():
    leaf = read()
    assert leaf.tcb("Milan") == bytes((1, 2, 4, 5, 6, 7, 3, 0xDB))
    with pytest.raises(MalformedEvidence, match="Turin"):
        leaf.tcb("Turin")
    turin = read(**{"3_4": None, "3_9": b"\x02\x01\x09"})
    assert turin.tcb("Turin") == bytes((9, 1, 2, 3, 5, 6, 7, 0xDB))
    with pytest.raises(MalformedEvidence, match="Genoa"):
        turin.tcb("Genoa")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("1", None),
        ("2", None),
        ("1", b"\x02\x01\x02"),
        ("1", b""),
        ("1", b"\x02"),
        ("1", b"\x02\x00"),
        ("1", b"\x02\x01\x00\x00"),
        ("1", b"\x02\x02\x00\x01"),
        ("1", b"\x02\x81\x01\x00"),
        ("1", b"\x03\x01\x00"),
        ("3_1", b"\x02\x01\x80"),
        ("3_1", b"\x02\x02\x01\x00"),
        ("3_8", b"\x02\x01\xdb"),
        ("2", b"\x0c\x05Milan"),
        ("2", b"\x16\x00"),
        ("2", b"\x16\x06Mil\x00an"),
        ("2", b"\x16\x05Mil\xe4n"),
        ("4", HWID[:63]),
        ("4", b""),
        ("4", b"\x04\x3f" + HWID[:63]),
        ("4", b"\x04\x40" + HWID + b"\0"),
        ("5", b"CN=x"),
        ("5", b"\x16\x81\x81" + b"x" * 129),
    ],
)
def test_what_is_missing_or_not_in_its_one_form_is_refused(name: str, value: bytes | None):
    with pytest.raises(MalformedEvidence):
        member(name, value)


def test_both_of_amds_forms_of_a_hardware_id_are_read():
    assert read().hwid == member("4", b"\x04\x40" + HWID).hwid == HWID
    assert member("4", HWID[:8]).hwid == member("4", b"\x04\x08" + HWID[:8]).hwid == HWID[:8]
    assert member("4", None).hwid is None


def test_members_that_amd_adds_are_skipped():
    assert member("6", b"\x05\x00") == read()


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(sorted(GOOD)), value=st.binary(max_size=70))
def test_any_bytes_are_read_or_refused(name: str, value: bytes):
    try:
        member(name.replace(".", "_"), value)
    except MalformedEvidence:
        return


def test_the_simulators_certificates_are_of_the_vendors_form(place: Any):
    leaf = x509.load_certificate(place.collateral.leaf)
    assert b"\xa0\x03\x02\x01\x02\x02\x01\x00" in leaf.tbs_certificate_bytes  # version 3, serial number 0
    assert parse_leaf(leaf).product_name == "Milan"
