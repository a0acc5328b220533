"""Who enrols at a broker, as its options say."""

import pytest

from strongroom.cli.enrolling import take_enroller
from strongroom.crypto.signatures import fingerprint, generate_p256, private_to_pem
from strongroom.errors import UsageError
from strongroom.records.verdict import RootClass
from strongroom_sim.tpm import TpmMaker

NONE = {"enrol_tpms": None, "ek_anchors": (), "enrol_days": 30, "ek_any_revocation": None}


def test_nobody_enrols_unless_a_key_is_named():
    told = {**NONE, "references": ()}
    assert take_enroller(told) is None
    assert told == {"references": ()}, "what is left is for others"
    for lost in ({"ek_anchors": ("root.pem",)}, {"ek_any_revocation": "none"}):
        with pytest.raises(UsageError, match="nobody enrols"):
            take_enroller({**NONE, **lost})


def test_the_makers_roots_count_and_those_that_are_named(tmp_path):
    key, maker = generate_p256(), TpmMaker.generate(now=1_800_000_000)
    (tmp_path / "key.pem").write_bytes(private_to_pem(key))
    (tmp_path / "root.pem").write_bytes(maker.root_pem)
    named = {**NONE, "enrol_tpms": tmp_path / "key.pem", "ek_anchors": (str(tmp_path / "root.pem"),), "enrol_days": 2}
    made = take_enroller(dict(named))
    assert {anchor.kind for anchor in made.anchors} == {"tpm"}
    assert {anchor.root_class for anchor in made.anchors} == set(RootClass)
    assert made.seconds == 2 * 86_400
    assert made.revocation.one_of == ("checked",)
    assert made.anchor.fingerprint == fingerprint(key.public_key())
    assert take_enroller({**named, "ek_any_revocation": "no lists"}).revocation.any == "no lists"
    vendors = take_enroller({**named, "ek_anchors": ()})
    assert RootClass.INSTALLATION not in {anchor.root_class for anchor in vendors.anchors}
