"""Documents of real enclaves, each with its stated outcome at its stated time."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509

from strongroom.crypto.x509 import certificate_digest
from strongroom.errors import MalformedEvidence
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import AWS_NITRO_ROOT, VENDOR_ANCHORS, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.nitro import Document, parse_document, unwrap, verify

PROD, DEBUG, SIGNED = "prod_2025-12-25.nsm.bin", "DEBUG_2025-12-25.scale.bin", "prod_2022-10-13_pcr8_nonce.cose"
NOTHING: set[str] = set()
EXPIRED = {"nitro.chain"}
# file, time, failed checks; a debug enclave is genuine here, and its zeros are refused by every appraisal
CASES: list[tuple[str, str, set[str]]] = [
    (PROD, "2025-12-25T13:15:37", NOTHING),
    (PROD, "2025-12-25T16:15:37", NOTHING),
    (PROD, "2025-12-25T16:15:38", EXPIRED),
    (PROD, "2025-12-25T13:15:33", EXPIRED),
    (PROD, "2026-11-21T00:00:00", EXPIRED),
    (DEBUG, "2025-12-25T08:20:46", NOTHING),
    (DEBUG, "2025-12-25T12:00:00", EXPIRED),
    (SIGNED, "2022-10-13T08:58:02", NOTHING),
    (SIGNED, "2022-10-13T11:58:03", EXPIRED),
    (SIGNED, "2026-11-21T00:00:00", EXPIRED),
]


def seconds(time: str) -> int:
    return int(datetime.fromisoformat(f"{time}+00:00").timestamp())


def read(vectors: Path, name: str) -> Document:
    document = unwrap((vectors / name).read_bytes())
    assert document is not None
    return parse_document(document)


def judged(vectors: Path, name: str, time: str) -> Genuine:
    return verify(read(vectors, name), None, VENDOR_ANCHORS, seconds(time))


@pytest.mark.parametrize(("name", "time", "expected"), CASES)
def test_a_real_document_has_its_stated_outcome(vectors: Path, name: str, time: str, expected: set[str]):
    genuine = judged(vectors, name, time)
    got = {check.id for check in genuine.checks if check.status is Status.FAIL}
    assert (name, time, got) == (name, time, expected)
    assert all_passed(genuine.checks) is not bool(expected)
    assert genuine.root_class is (None if expected else RootClass.CLOUD)
    assert (genuine.tcb_status, genuine.advisories) == (None, ())


def test_what_real_documents_claim(vectors: Path):
    claims = judged(vectors, PROD, "2025-12-25T13:15:37").claims
    assert str(claims["module_id"]).startswith("i-0827e799ec9232d44-enc")
    assert claims["instance"] == "i-0827e799ec9232d44"
    assert str(claims["pcr0"]).startswith("5cb70295")
    assert (claims["report_data"], claims["nonce"], claims["revocation"]) == ("00" * 64, "", "none")
    signed = judged(vectors, SIGNED, "2022-10-13T08:58:02").claims
    assert str(signed["pcr8"]).startswith("8790eb3c")
    assert len(str(signed["nonce"])) == 512
    assert signed["report_data"] == ""


def test_a_real_debug_enclave_says_nothing_of_its_image(vectors: Path):
    claims = judged(vectors, DEBUG, "2025-12-25T08:20:46").claims
    assert {claims[f"pcr{index}"] for index in range(3)} == {"00" * 48}
    assert set(str(claims["pcr4"])) != {"0"}


def test_the_pinned_root_is_the_one_that_aws_publishes(vectors: Path):
    pem = (vectors / "AWS_NitroEnclaves_Root-G1.pem").read_bytes()
    assert certificate_digest(x509.load_pem_x509_certificate(pem)) == AWS_NITRO_ROOT.fingerprint
    assert installation_anchor("nitro", pem.strip() + b"\n") == AWS_NITRO_ROOT


def test_the_parts_of_two_real_documents_do_not_mix(vectors: Path):
    from dataclasses import replace

    mine, other = read(vectors, PROD), read(vectors, DEBUG)
    now = seconds("2025-12-25T08:20:46")
    mixes = [
        replace(mine, certificate=other.certificate, cabundle=other.cabundle),
        replace(mine, certificate=other.certificate, cabundle=other.cabundle, module_id=other.module_id),
        replace(other, cabundle=mine.cabundle),
        replace(other, message=mine.message),
    ]
    for mixed in mixes:
        genuine = verify(mixed, None, VENDOR_ANCHORS, now)
        assert not all_passed(genuine.checks)
        assert "pcr0" not in genuine.claims


@pytest.mark.parametrize("name", [PROD, SIGNED])
def test_no_flipped_bit_in_a_real_document_is_accepted(vectors: Path, name: str):
    document = unwrap((vectors / name).read_bytes())
    assert document is not None
    now = seconds("2025-12-25T13:15:37" if name == PROD else "2022-10-13T08:58:02")
    for position in range(0, len(document), 5):
        changed = bytearray(document)
        changed[position] ^= 1 << (position % 8)
        try:
            parsed = parse_document(bytes(changed))
        except MalformedEvidence:
            continue
        assert not all_passed(verify(parsed, None, VENDOR_ANCHORS, now).checks), position
