import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.appraisal import cmw, ear
from strongroom.errors import MalformedRecord


@pytest.fixture
def attestation(case: Any) -> cmw.Attestation:
    key = ec.generate_private_key(ec.SECP384R1())
    return cmw.Attestation(case.bundle, ear.to_token(case.judge(), key, issuer="sha256:" + "0" * 64))


def test_what_is_wrapped_comes_out_again(attestation: cmw.Attestation):
    assert cmw.unwrap(cmw.wrap(attestation)) == attestation
    bare = cmw.Attestation(attestation.bundle, None)
    assert cmw.unwrap(cmw.wrap(bare)) == bare


def test_the_indicators_are_those_of_the_draft(attestation: cmw.Attestation):
    members = json.loads(cmw.wrap(attestation))
    assert (members["evidence"][2], members["result"][2]) == (0b110, 0b1000)
    assert members["result"][0].startswith("application/eat+jwt")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("__cmwc_t"),
        lambda m: m.update(__cmwc_t="tag:other"),
        lambda m: m.pop("evidence"),
        lambda m: m.update(extra=m["evidence"]),
        lambda m: m.update(evidence=m["result"]),
        lambda m: m["evidence"].append(1),
        lambda m: m["evidence"].__setitem__(2, 8),
        lambda m: m["evidence"].__setitem__(1, 8),
        lambda m: m["result"].__setitem__(1, "_w"),
    ],
)
def test_anything_else_is_refused(attestation: cmw.Attestation, change: Any):
    members = json.loads(cmw.wrap(attestation))
    change(members)
    with pytest.raises(MalformedRecord):
        cmw.unwrap(json.dumps(members).encode())
