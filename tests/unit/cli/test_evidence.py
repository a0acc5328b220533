import calendar
import json

import pytest

from strongroom.records import codec
from strongroom.records.evidence import EvidenceBundle

GOLDEN_NOW = 1_800_000_000


def at(day: str) -> str:
    year, month, date = map(int, day.split("-"))
    return str(calendar.timegm((year, month, date, 12, 0, 0)))


@pytest.fixture
def golden(pytestconfig):
    return pytestconfig.rootpath / "tests" / "golden"


def test_a_real_quote_with_its_collateral_is_genuine_but_not_yet_trusted(strongroom, vectors):
    quote, collateral = vectors / "tdx/v4_b0c06f_uptodate.quote", vectors / "tdx/v4_b0c06f_uptodate.collateral.json"
    ran = strongroom("evidence", "verify", quote, "--collateral", collateral, "--at", at("2025-07-04"))
    assert ran.code == 0
    assert "genuine, not yet trusted" in ran.out
    ran = strongroom("evidence", "verify", quote, "--collateral", collateral, "--at", at("2025-07-04"), "--json")
    assert ran.document["accepted"] is True
    assert ran.document["level"] == "confidential"
    assert ran.document["claims"]["fmspc"] == "b0c06f000000"
    outcome = {check["id"]: check["status"] for check in ran.document["checks"]}
    assert outcome["tdx.quote.signature"] == "pass"
    assert outcome["statement.image"] == "not-run"


def test_the_same_quote_after_its_collateral_expired_is_refused(strongroom, vectors):
    quote, collateral = vectors / "tdx/v4_b0c06f_uptodate.quote", vectors / "tdx/v4_b0c06f_uptodate.collateral.json"
    ran = strongroom("evidence", "verify", quote, "--collateral", collateral, "--at", at("2025-08-04"), "--json")
    assert ran.code == 1
    assert ran.document["accepted"] is False


def test_hexadecimal_and_base64_are_read_as_well(strongroom, vectors, tmp_path):
    import base64

    data = (vectors / "tdx/v4_b0c06f_uptodate.quote").read_bytes()
    for name, text in (("hex", data.hex()), ("b64", base64.b64encode(data).decode())):
        (tmp_path / name).write_text(text + "\n")
        assert strongroom("evidence", "show", tmp_path / name, "--json").document["claims"]["mrtd"]


def test_a_debug_quote_is_never_genuine_enough(strongroom, vectors):
    quote, collateral = vectors / "tdx/v4_50806f_DEBUG.quote", vectors / "tdx/v4_b0c06f_uptodate.collateral.json"
    ran = strongroom("evidence", "verify", quote, "--collateral", collateral, "--at", at("2025-07-04"), "--json")
    outcome = {check["id"]: check["status"] for check in ran.document["checks"]}
    assert ran.code == 1
    assert outcome["policy.tdx.debug"] in {"fail", "not-run"}


def test_a_bare_quote_needs_collateral(strongroom, vectors):
    ran = strongroom("evidence", "verify", vectors / "tdx/v4_b0c06f_uptodate.quote", "--json")
    assert (ran.code, ran.error) == (2, "usage")


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"{}", b"\x04\x00\x02\x00", b'{"type":"strongroom/evidence-bundle/v2"}']
)
def test_what_is_no_evidence_is_unreadable(strongroom, tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    for verb in ("show", "verify"):
        assert strongroom("evidence", verb, tmp_path / "file", "--json").code == 3


def test_simulated_evidence_is_refused_without_the_word_and_without_its_root(strongroom, golden):
    file, when = golden / "evidence-bundle.json", ("--at", str(GOLDEN_NOW))
    anchor = ("--anchor", golden / "root.pem")
    assert strongroom("evidence", "verify", file, *when, "--json").code == 1
    ran = strongroom("evidence", "verify", file, *when, *anchor, "--json")
    assert (ran.code, ran.document["accepted"], ran.document["level"]) == (1, False, "simulated")
    ran = strongroom("evidence", "verify", file, *when, *anchor, "--accept-simulated", "--json")
    assert (ran.code, ran.document["accepted"]) == (0, True)


def test_evidence_is_judged_by_a_policy_and_explained(strongroom, golden, tmp_path):
    from strongroom.appraisal.policies import to_toml
    from strongroom.records.policy import Policy

    policy = codec.decode(Policy, (golden / "policy.json").read_bytes())
    (tmp_path / "policy.toml").write_text(to_toml(policy))
    bundle = codec.decode(EvidenceBundle, (golden / "evidence-bundle.json").read_bytes())
    words = (golden / "evidence-bundle.json", "--policy", tmp_path / "policy.toml", "--at", str(GOLDEN_NOW))
    anchor = ("--anchor", golden / "root.pem")
    nonce = ("--nonce", bundle.evidence.nonce.hex())
    accepted = strongroom("evidence", "verify", *words, *anchor, *nonce, "--accept-simulated", "--json")
    assert (accepted.code, accepted.document["accepted"]) == (0, True)
    stale = strongroom("evidence", "verify", *words, *anchor, "--nonce", "00" * 32, "--accept-simulated", "--json")
    assert stale.code == 1
    assert [c["id"] for c in stale.document["checks"] if c["status"] != "pass"] == ["binding.nonce"]
    assert strongroom("policy", "explain", *words, *anchor).out == "every check passes\n"
    (tmp_path / "strict.toml").write_text(to_toml(policy).replace('["simulated"]', '["confidential"]'))
    ran = strongroom("policy", "explain", words[0], "--policy", tmp_path / "strict.toml", *words[3:], *anchor, "--json")
    assert ran.code == 1
    assert [row["id"] for row in ran.document["failed"]] == ["policy.level"]
    assert "demands" in ran.document["failed"][0]["cause"]
    assert json.loads(ran.out)["level"] == "simulated"
