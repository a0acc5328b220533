import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from strongroom.cli.receipt import log_command
from strongroom.client.client import Client
from strongroom.client.documents import check_document
from strongroom.client.verification import Trust
from strongroom.crypto.signatures import generate_ed25519, raw_public
from strongroom.errors import (
    AppraisalRefused,
    LogInvalid,
    ReceiptInvalid,
    SignatureInvalid,
    SimulationNotAccepted,
    UsageError,
)
from strongroom.receipts.cosignature import Quorum, Witness, cosign
from strongroom.receipts.note import Checkpoint, decode
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.verdict import Level


@pytest.fixture(scope="module")
def client(made, served) -> Client:
    found = made.client(served.url)
    found.ask("x")
    return found


@pytest.fixture
def document(client) -> ReceiptDocument:
    return codec.decode(ReceiptDocument, codec.encode(client.last_receipt))


@pytest.fixture
def trust(client) -> Trust:
    return client.trust


def test_a_saved_receipt_holds_offline_long_after_its_collateral_expired(document, trust):
    checked = check_document(document, trust)
    assert checked.receipt.outcome == "complete"
    assert checked.verdict.level is Level.SIMULATED
    assert checked.decision.event == "release"


def test_judged_at_a_moment_when_its_collateral_is_stale_it_does_not(document, trust):
    with pytest.raises(AppraisalRefused):
        check_document(document, trust, at=4_000_000_000)


def test_a_receipt_of_another_request_or_answer_is_refused(document, trust):
    for changed in (replace(document, request_sha256=bytes(32)), replace(document, response_sha256=bytes(32))):
        with pytest.raises(ReceiptInvalid):
            check_document(changed, trust)


def test_a_receipt_under_another_salt_or_signature_is_refused(document, trust):
    sealed = document.receipt
    for changed in (
        replace(sealed, salt=bytes(32)),
        replace(sealed, envelope=replace(sealed.envelope, signatures=(("", bytes(64)),))),
    ):
        with pytest.raises(ReceiptInvalid):
            check_document(replace(document, receipt=changed), trust)


def test_a_decision_that_is_not_in_the_log_is_refused(document, trust):
    proof = document.release.proof
    leaf = json.loads(proof.leaf)
    for changed in (
        replace(proof, leaf=codec.encode({**leaf, "time": leaf["time"] + 1})),
        replace(proof, index=proof.index + 1),
        replace(proof, path=proof.path[1:]),
    ):
        with pytest.raises(LogInvalid):
            check_document(replace(document, release=replace(document.release, proof=changed)), trust)


def test_a_decision_about_another_worker_is_refused(document, trust, made):
    with made.serving() as other:
        another = made.client(other.url)
        another.ask("x")
        with pytest.raises((ReceiptInvalid, LogInvalid)):
            check_document(replace(document, release=another.last_receipt.release), trust)


def test_another_broker_or_a_user_who_accepts_no_simulation_is_refused(document, trust):
    with pytest.raises(SignatureInvalid):
        check_document(document, replace(trust, broker=digest_bytes(b"other")))
    with pytest.raises(SimulationNotAccepted):
        check_document(document, replace(trust, accept_simulated=False))


def test_without_a_broker_somebody_must_say_when(document, trust):
    with pytest.raises(UsageError):
        check_document(document, replace(trust, broker=None))


def test_no_other_digest_of_the_decision_passes_for_the_chain(document, trust):
    for other in (document.bundle.evidence.keyset.digest, document.bundle.evidence.statement.digest):
        with pytest.raises(LogInvalid):
            check_document(replace(document, release=replace(document.release, chain=other)), trust)


# Witnesses

KEYS = {name: generate_ed25519() for name in ("w1.example", "w2.example")}
WITNESSES = tuple(Witness(name, raw_public(key)) for name, key in KEYS.items())


def witnessed(document, *names):
    """The document with the log's state signed by these witnesses."""
    proof = document.release.proof
    origin, size, root = proof.checkpoint.split("\n")[:3]
    state = Checkpoint(origin, int(size), decode(root))
    lines = "".join(cosign(state, name, KEYS[name], time=1_800_000_000) for name in names)
    changed = replace(proof, checkpoint=proof.checkpoint + lines)
    return replace(document, release=replace(document.release, proof=changed))


def test_whoever_names_witnesses_takes_no_document_without_them(document, trust):
    named = replace(trust, witnesses=Quorum(2, WITNESSES))
    assert check_document(witnessed(document, *KEYS), named).decision.event == "release"
    for names in ([], ["w1.example"], ["w2.example"] * 2):
        with pytest.raises(LogInvalid, match="demanded"):
            check_document(witnessed(document, *names), named)
        assert check_document(witnessed(document, *names), trust)


def test_log_verify_names_witnesses(document, trust, tmp_path):
    def verify(saved, *words):
        path = tmp_path / "receipt.json"
        path.write_bytes(codec.encode(saved))
        return CliRunner().invoke(log_command, ["verify", str(path), "--broker-fingerprint", trust.broker, *words])

    named = [word for one in WITNESSES for word in ("--witness", one.key)]
    done = verify(witnessed(document, *KEYS), *named, "--json")
    assert [one["name"] for one in json.loads(done.output)["witnesses"]] == list(KEYS)
    assert (
        "witnessed by w1.example at 2027-01-15T08:00:00Z"
        in verify(witnessed(document, "w1.example"), *named[:2]).output
    )
    assert verify(witnessed(document, "w1.example"), *named, "--witnesses", "1").exit_code == 0
    for saved, words in ((document, named), (witnessed(document, "w1.example"), named), (document, named[:2])):
        assert isinstance(verify(saved, *words).exception, LogInvalid)
    assert isinstance(verify(document, "--witnesses", "1").exception, UsageError)
    assert isinstance(verify(document, *named, "--witnesses", "3").exception, UsageError)
