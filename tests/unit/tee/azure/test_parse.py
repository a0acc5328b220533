"""The paravisor's report: real ones read, changed ones refused."""

import base64
import json
import struct
from pathlib import Path

import pytest

from strongroom.errors import MalformedEvidence
from strongroom.tee.azure import parse_report, parse_runtime

FILES = ("snp_milan_evidence_v1.json", "snp_milan_evidence_v2.json", "tdx_evidence_v1.json")


def report(vectors: Path, name: str) -> bytes:
    text = json.loads((vectors / "azure-vtpm" / name).read_text())["hcl_report"]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("name", FILES)
def test_real_reports_say_what_the_hardware_must_have_signed(vectors: Path, name: str):
    found = parse_report(report(vectors, name))
    assert found.kind == name[:3]
    place = slice(0x50, 0x90) if found.kind == "snp" else slice(128, 192)
    runtime = parse_runtime(found.runtime)
    assert found.hardware[place] == runtime.bound
    assert runtime.modulus.bit_length() == 2048
    assert runtime.claims["secure_boot"] == "1"


def test_user_data_of_the_later_layout_is_read(vectors: Path):
    assert parse_runtime(parse_report(report(vectors, FILES[1])).runtime).user_data.startswith("982f5c6e45df0ed3")


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0), (4, 3), (8, 1), (12, 1), (16, 1), (20, 1), (1216, 9), (1220, 2), (1224, 3), (1228, 2), (1232, 5)],
)
def test_another_header_is_refused(vectors: Path, at: int, value: int):
    changed = bytearray(report(vectors, FILES[0]))
    struct.pack_into("<I", changed, at, value)
    with pytest.raises(MalformedEvidence):
        parse_report(bytes(changed))


def test_anything_but_zeros_at_the_end_is_refused(vectors: Path):
    good = report(vectors, FILES[0])
    for bad in (good[:-1], good + b"\0", good[:-1] + b"\1", b"", good[:1216]):
        with pytest.raises(MalformedEvidence):
            parse_report(bad)


def test_claims_without_one_usable_key_are_refused(vectors: Path):
    good = report(vectors, FILES[0])
    for old, new in (
        (b"HCLAkPub", b"HCLAkPux"),
        (b'"RSA"', b'"XSA"'),
        (b'"e":"AQAB"', b'"e":"AQAA"'),
        (b'{"keys"', b'["keys"'),
    ):
        with pytest.raises(MalformedEvidence):
            parse_runtime(parse_report(good.replace(old, new, 1)).runtime)


def runtime(n: int, e: int, **configuration: object) -> bytes:
    numbers = {
        name: base64.urlsafe_b64encode(value.to_bytes(512, "big")).decode() for name, value in (("n", n), ("e", e))
    }
    key = {"kid": "HCLAkPub", "kty": "RSA", **numbers}
    return json.dumps({"keys": [key], "vm-configuration": configuration}).encode()


@pytest.mark.parametrize(
    ("n", "e"),
    [
        ((1 << 2047) - 1, 65537),
        (1 << 2047, 65537),
        ((1 << 4096) - 2, 65537),
        ((1 << 2048) - 1, 1),
        ((1 << 2048) - 1, 4),
        ((1 << 2048) - 1, (1 << 32) + 1),
        ((1 << 2048) - 1, (1 << 2048) + 1),
    ],
)
def test_an_ak_that_no_tpm_has_is_refused(n: int, e: int):
    with pytest.raises(MalformedEvidence):
        parse_runtime(runtime(n, e))


def test_only_known_words_about_the_vm_become_claims():
    said = {"secure-boot": True, "measurement": "00", "pcr0": "00", "debug": False, "vmUniqueId": "x", "tpm-enabled": 7}
    assert parse_runtime(runtime((1 << 2048) - 1, 65537, **said)).claims == {"secure_boot": "1", "vmUniqueId": "x"}
