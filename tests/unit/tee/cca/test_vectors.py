"""Tokens that others publish, each with its stated outcome; their keys are for tests, so no vendor vouches for them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.crypto import cose
from strongroom.crypto.signatures import public_to_der
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import ArmCollateral
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.cca import parse_token, platform_anchor, verify
from strongroom.tee.cca.verify import _bound, _realm_key, _signed
from strongroom.tee.genuine import Genuine

EXAMPLE, VERAISON = "example_token.cbor", "veraison_evidence.cbor"
NOW = 1_790_000_000
NOTHING: set[str] = set()
# file, failed checks
CASES: list[tuple[str, set[str]]] = [(EXAMPLE, NOTHING), (VERAISON, {"cca.platform.key"})]


def key_of(jwk: dict[str, str]) -> bytes:
    x, y = (base64.urlsafe_b64decode(jwk[name] + "==") for name in ("x", "y"))
    return public_to_der(cose.key_from_point(b"\x04" + x + y, cose.Algorithm.ES384))


@pytest.fixture(scope="session")
def collateral(vectors: Path) -> ArmCollateral:
    """The key in the store of trust anchors that belongs to the example."""
    (entry,) = json.loads((vectors / "example_tastore.json").read_text())
    identifiers = (bytes.fromhex(entry[name]) for name in ("implementation-id", "instance-id"))
    return ArmCollateral(key_of(entry["pkey"]), *identifiers)


def judged(vectors: Path, collateral: ArmCollateral, name: str) -> Genuine:
    return verify(parse_token((vectors / name).read_bytes()), collateral, [platform_anchor(collateral.cpak)], NOW)


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_a_published_token_has_its_stated_outcome(
    vectors: Path, collateral: ArmCollateral, name: str, expected: set[str]
):
    genuine = judged(vectors, collateral, name)
    got = {check.id for check in genuine.checks if check.status is Status.FAIL}
    assert (name, got) == (name, expected)
    assert all_passed(genuine.checks) is not bool(expected)
    assert genuine.root_class is (None if expected else RootClass.INSTALLATION)


def test_the_realm_part_of_the_token_without_a_known_platform_holds_and_still_says_nothing(
    vectors: Path, collateral: ArmCollateral
):
    token = parse_token((vectors / VERAISON).read_bytes())
    assert _bound(token.platform, token.realm)
    assert _signed(token.realm, _realm_key(token.realm))
    assert judged(vectors, collateral, VERAISON).claims == {}


def test_the_key_that_stands_beside_the_example_is_the_one_in_the_store(vectors: Path, collateral: ArmCollateral):
    assert key_of(json.loads((vectors / "example_cpak_pub.jwk").read_text())) == collateral.cpak


def test_the_example_equals_its_reference_values(vectors: Path, collateral: ArmCollateral):
    claims: Any = judged(vectors, collateral, EXAMPLE).claims
    store = json.loads((vectors / "example_rvstore.json").read_text())
    (platform,), (realm,) = store["platform"], store["realm"]
    assert claims["implementation_id"] == platform["implementation-id"]
    assert claims["config"] == platform["platform-configuration"]
    assert [claims[f"component{index}"] for index in range(claims["components"])] == [
        f"{part['component-type']}:{part['measurement-value']}:{part['signer-id']}"
        for part in platform["sw-components"]
    ]
    assert claims["rim"] == realm["initial-measurement"]
    assert [claims[f"rem{index}"] for index in range(4)] == realm["extensible-measurements"]
    assert claims["rpv"] == realm["personalization-value"]
    assert claims["lifecycle"] == 12291


def test_no_flipped_bit_in_a_published_token_is_accepted(vectors: Path, collateral: ArmCollateral):
    token = (vectors / EXAMPLE).read_bytes()
    anchor = platform_anchor(collateral.cpak)
    for position in range(len(token)):
        changed = bytearray(token)
        changed[position] ^= 1 << (position % 8)
        try:
            parsed = parse_token(bytes(changed))
        except MalformedEvidence:
            continue
        assert not all_passed(verify(parsed, collateral, [anchor], NOW).checks), position
