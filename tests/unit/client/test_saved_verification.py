"""A verification kept in a file: shown, checked again offline; and refusals that say what differed and what to do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from world import Served, World

from strongroom.appraisal.policies import to_toml
from strongroom.cli.verification import verification_command
from strongroom.client.client import AsyncClient
from strongroom.client.documents import check_verification
from strongroom.client.verification import Verification
from strongroom.errors import (
    AppraisalRefused,
    FileUnreadable,
    LogInvalid,
    MalformedRecord,
    SignatureInvalid,
    SimulationNotAccepted,
    StrongroomError,
    UsageError,
)
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.policy import Requirement
from strongroom.records.session import VerificationDocument
from strongroom.records.verdict import Level
from strongroom.services.proxy import Proxy
from strongroom.services.server import BackgroundServer


@pytest.fixture(scope="module")
def client(made: World, served: Served) -> Any:
    found = made.client(served.url)
    found.verify()
    return found


@pytest.fixture
def verification(client) -> Verification:
    return client.verification


@pytest.fixture
def document(verification, tmp_path) -> VerificationDocument:
    verification.save(tmp_path / "saved.json")
    return codec.decode(VerificationDocument, (tmp_path / "saved.json").read_bytes())


def test_a_saved_verification_holds_offline(document, client):
    found = check_verification(document, client.trust)
    assert found.verdict.level is Level.SIMULATED
    assert found.decision.event == "release"
    assert check_verification(document, client.trust, nonce=document.bundle.evidence.nonce)


def test_it_is_checked_and_not_believed(document, client):
    other = replace(document.verdict, level=Level.CONFIDENTIAL)
    with pytest.raises(AppraisalRefused, match="not the one"):
        check_verification(replace(document, verdict=other), client.trust)
    empty = replace(document.verdict, checks=())
    with pytest.raises(AppraisalRefused, match="not the one"):
        check_verification(replace(document, verdict=empty), client.trust)
    with pytest.raises(AppraisalRefused, match="nonce"):
        check_verification(document, client.trust, nonce=bytes(32))
    with pytest.raises(SimulationNotAccepted):
        check_verification(document, replace(client.trust, accept_simulated=False))
    with pytest.raises(SignatureInvalid):
        check_verification(document, replace(client.trust, broker=digest_bytes(b"another")))
    with pytest.raises(UsageError):
        check_verification(document, replace(client.trust, broker=None))
    with pytest.raises(AppraisalRefused):
        check_verification(document, replace(client.trust, anchors=()))
    proof = replace(document.release.proof, index=document.release.proof.index + 1)
    with pytest.raises((LogInvalid, MalformedRecord)):
        check_verification(replace(document, release=replace(document.release, proof=proof)), client.trust)


def test_nothing_is_overwritten(verification, tmp_path):
    (tmp_path / "there").write_text("mine")
    with pytest.raises(UsageError):
        verification.save(tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(FileUnreadable):
        verification.save(tmp_path / "no" / "such" / "folder")


def told(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(verification_command, [str(one) for one in arguments])
    assert done.exception is None or isinstance(done.exception, StrongroomError | SystemExit), done.exception
    return done.exit_code, done.output


def test_the_commands_show_and_check(made: World, verification, tmp_path: Path):
    saved, policy = tmp_path / "saved.json", tmp_path / "policy.toml"
    verification.save(saved)
    policy.write_text(to_toml(made.policy))
    trust = ["--policy", policy, "--anchor", made.anchor_file, "--accept-simulated"]
    trust += ["--broker-fingerprint", made.broker.identity.fingerprint]
    code, text = told("show", saved)
    assert code == 0
    assert made.artifact in text
    assert "shown, not checked" in text
    assert json.loads(told("show", saved, "--json")[1])["checked"] is False
    code, text = told("check", saved, *trust)
    assert code == 0
    assert "the verification holds" in text
    shown = json.loads(told("check", saved, *trust, "--json", "--nonce", verification.bundle.evidence.nonce.hex())[1])
    assert shown["accepted"] is True
    assert told("check", saved, *trust, "--nonce", "00" * 32)[0] != 0
    assert told("check", saved, *trust, "--nonce", "xyz")[0] != 0


# --- refusals ---------------------------------------------------------------------------------------------------------------


def test_a_refusal_names_the_checks_what_differed_and_the_remedy(made, served):
    policy = made.make_policy(artifacts=Requirement(one_of=("sha256:" + "0" * 64,)))
    with pytest.raises(AppraisalRefused) as refused:
        made.client(served.url, policy=policy).verify()
    text = refused.value.explain()
    assert refused.value.failed == ("policy.artifacts",)
    [line] = [one for one in text.splitlines() if one.startswith("  policy.artifacts: ")]
    assert made.artifact in line
    assert "an artifact is open there that the policy does not name" in line
    assert text.endswith(refused.value.remedy)


def test_the_proxy_tells_the_same(made, served):
    policy = made.make_policy(artifacts=Requirement(one_of=("sha256:" + "0" * 64,)))
    client = AsyncClient(
        served.url,
        policy=policy,
        anchor=made.anchor_file,
        broker=made.broker.identity.fingerprint,
        accept_simulated=True,
    )
    with pytest.raises(AppraisalRefused) as refused:
        made.client(served.url, policy=policy).verify()
    with BackgroundServer(Proxy(client).app) as proxy:
        for path in ("/v1/chat/completions", "/v1/messages"):
            answer = httpx2.post(proxy.url + path, json={"messages": []}, timeout=30)
            assert answer.status_code == 502
            assert answer.json()["error"]["message"] == refused.value.explain()


def test_an_error_without_checks_is_a_sentence_and_its_remedy():
    error = UsageError("this has no meaning", remedy="Leave it out.")
    assert error.explain() == "this has no meaning. Leave it out."
    assert AppraisalRefused("no", remedy="Look.").explain() == "no. Look."
