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
    quote, collateral = vectors / "tdx/v4_50806f_DEBUG.quote", vectors / "tdx/bundles/50806f_2023-06-25.json"
    ran = strongroom("evidence", "verify", quote, "--collateral", collateral, "--at", "2023-06-25T12:00:00Z", "--json")
    outcome = {check["id"]: check["status"] for check in ran.document["checks"]}
    assert ran.code == 1
    assert outcome["tdx.debug"] == "fail"


def test_a_bare_quote_without_collateral_is_refused(strongroom, vectors):
    ran = strongroom("evidence", "verify", vectors / "tdx/v4_b0c06f_uptodate.quote", "--json")
    assert (ran.code, ran.document["accepted"]) == (1, False)
    assert "tdx.collateral" in {check["id"] for check in ran.document["checks"] if check["status"] == "fail"}


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


@pytest.mark.parametrize(
    ("file", "folders", "when"),
    [
        ("tdx/v4_b0c06f_uptodate.quote", ("tdx", "tdx/bundles"), "2025-07-04"),
        ("tdx/v5_90c06f_uptodate.quote", ("tdx", "tdx/bundles"), "2026-02-05"),
        ("tdx/v5_90c06f_uptodate.quote", ("tdx",), "2026-03-17"),
        ("snp/v3_genoa.report.bin", ("snp",), "2026-06-01"),
        ("snp/v5_turin.report.bin", ("snp",), "2026-06-01"),
        ("snp/v2_milan.report.hex", ("snp",), "2026-06-01"),
    ],
)
def test_out_of_a_folder_comes_what_belongs_to_the_evidence_and_holds_then(strongroom, vectors, file, folders, when):
    named = [word for folder in folders for word in ("--collateral", vectors / folder)]
    words = (vectors / file, *named, "--at", f"{when}T12:00:00Z", "--any-revocation", "none is there")
    assert strongroom("evidence", "verify", *words, "--json").document["accepted"] is True


def test_a_moment_is_a_number_or_a_date_and_nothing_else(strongroom, vectors):
    words = ("evidence", "verify", vectors / "nitro/prod_2025-12-25.nsm.bin", "--json", "--at")
    assert strongroom(*words, "1766668537").code == 0
    assert strongroom(*words, "2025-12-25T13:15:37+00:00").code == 0
    assert strongroom(*words, "2025-12-25T13:15:37").code == 0
    assert strongroom(*words, "yesterday").code == 2


def test_revocation_is_excused_by_name_only(strongroom, vectors):
    words = (
        "evidence",
        "verify",
        vectors / "snp/v5_turin.report.bin",
        "--collateral",
        vectors / "snp",
        "--json",
        "--at",
        "2026-06-01",
    )
    strict = strongroom(*words)
    assert (strict.code, strict.document["accepted"]) == (1, False)
    assert [c["id"] for c in strict.document["checks"] if c["status"] == "not-run" and c["id"].startswith("snp")] == [
        "snp.crl"
    ]
    excused = strongroom(*words, "--any-revocation", "an archive without lists")
    assert excused.code == 0
    assert {c["detail"] for c in excused.document["checks"] if c["id"] == "snp.crl"} == {
        "not checked: an archive without lists"
    }
