"""What witnesses need on the command line, before anything is served."""

from strongroom.crypto.signatures import generate_ed25519, raw_public
from strongroom.receipts.note import parse_verifier_key, verifier_key
from strongroom.release.state import load_or_create

LOG = verifier_key("broker.example", raw_public(generate_ed25519()))


def test_who_a_broker_is_can_be_asked_before_it_serves(strongroom, tmp_path):
    document = strongroom("broker", "identity", "--state", tmp_path / "broker", "--json").document
    identity = load_or_create(tmp_path / "broker").identity
    assert document["fingerprint"] == identity.fingerprint
    assert parse_verifier_key(document["log"]) == (identity.log_origin, identity.log)
    assert document["log"] in strongroom("broker", "identity", "--state", tmp_path / "broker").out


def test_a_witness_that_is_told_nonsense_does_not_start(strongroom, tmp_path):
    words = ("log", "witness", "--json", "--state", tmp_path / "w", "--listen", "127.0.0.1:0")
    assert strongroom(*words, "--name", "w", "--log", LOG, "--log", LOG).error == "usage"
    assert strongroom(*words, "--name", "a b", "--log", LOG).error == "usage"
    assert strongroom(*words, "--name", "w", "--log", "no key").error == "record.malformed"
    assert strongroom(*words, "--name", "w").error == "usage"


def test_a_broker_that_demands_witnesses_names_them(strongroom, tmp_path):
    strongroom("keys", "new", tmp_path / "owner.pem")
    words = ("broker", "serve", "--json", "--state", tmp_path / "b", "--owner", tmp_path / "owner.pem.pub")
    assert strongroom(*words, "--witnesses", "1").error == "usage"
    assert strongroom(*words, "--witness", "http://127.0.0.1:1").error == "usage"
    assert strongroom(*words, "--witness", f"http://127.0.0.1:1={LOG}").error == "record.malformed"
    assert not (tmp_path / "b").exists()
