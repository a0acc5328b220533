"""Cosignatures. Peers: sigstore's parser splits our cosigned notes; the message is put together here by hand from the specification."""

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sigstore._internal.rekor.checkpoint import LogCheckpoint, SignedNote

from strongroom.crypto import merkle
from strongroom.crypto.signatures import generate_ed25519, raw_public, verify
from strongroom.errors import LogInvalid, MalformedRecord, UsageError
from strongroom.receipts import note
from strongroom.receipts.cosignature import Cosignature, Quorum, Witness, cosign, cosignatures, pick_line
from strongroom.receipts.note import Checkpoint, open_checkpoint, sign_checkpoint
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.release import Leaf, LogProof

LOG = "broker.example/log"
LOG_KEY = generate_ed25519()
STATE = Checkpoint(LOG, 7, bytes(range(32)))
SIGNED = sign_checkpoint(STATE, LOG, LOG_KEY)
NAMES = ("witness.example/w1", "witness.example/w2", "other.example")
KEYS = tuple(generate_ed25519() for _ in NAMES)
WITNESSES = tuple(Witness(name, raw_public(key)) for name, key in zip(NAMES, KEYS, strict=True))
TIME = 1_679_315_147


def line(number=0, *, state=STATE, time=TIME, name=None, key=None):
    return cosign(state, name or NAMES[number], key or KEYS[number], time=time)


def claimed(stamped, number=0):
    """A line under a witness's name and key id with whatever content."""
    witness = WITNESSES[number]
    identifier = note.key_id(witness.name, witness.public, note.COSIGNATURE)
    return f"— {witness.name} {base64.b64encode(identifier + stamped).decode()}\n"


def test_a_line_is_what_the_specification_says():
    _, name, encoded = line().rstrip("\n").split(" ")
    data = base64.b64decode(encoded)
    public = WITNESSES[0].public
    assert name == NAMES[0]
    assert data[:4] == hashlib.sha256(NAMES[0].encode() + b"\n\x04" + public).digest()[:4]
    assert data[4:12] == TIME.to_bytes(8, "big")
    root = base64.b64encode(bytes(range(32))).decode()
    message = f"cosignature/v1\ntime 1679315147\nbroker.example/log\n7\n{root}\n"
    verify(KEYS[0].public_key(), data[12:], message.encode())
    assert len(data) == 4 + 8 + 64


def test_the_line_of_the_specifications_example_has_a_form_that_is_read():
    """c2sp.org/tlog-cosignature, the example at the top; its key is not given, so only who and when is compared."""
    text = (
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nN"
        "o0xUe+mbIUBkBIfZ+qnA=="
    )
    name, signature = note.parse_signature(text)
    assert (name, len(signature)) == ("witness.example.com/w1", 76)
    assert int.from_bytes(signature[4:12], "big") == TIME


def test_sigstore_splits_a_cosigned_note_as_we_do():
    peer = SignedNote.from_text(SIGNED + line(0) + line(1))
    assert [signature.name for signature in peer.signatures] == [LOG, *NAMES[:2]]
    assert peer.signatures[1].sig_hash == note.key_id(NAMES[0], WITNESSES[0].public, note.COSIGNATURE)
    assert LogCheckpoint.from_text(peer.note).log_size == STATE.size


@given(
    size=st.integers(0, note.MAX_SIZE),
    root=st.binary(min_size=32, max_size=32),
    time=st.integers(0, 2**63 - 1),
    signers=st.sets(st.integers(0, 2)),
)
@settings(max_examples=40, deadline=None)
def test_exactly_those_who_signed_are_found(size, root, time, signers):
    state = Checkpoint(LOG, size, root)
    text = sign_checkpoint(state, LOG, LOG_KEY) + "".join(line(n, state=state, time=time) for n in signers)
    assert open_checkpoint(text, LOG, raw_public(LOG_KEY)) == state
    assert cosignatures(text, WITNESSES) == tuple(Cosignature(WITNESSES[n], time) for n in sorted(signers))
    for least in (1, 2, 3):
        quorum = Quorum(least, WITNESSES)
        if len(signers) >= least:
            assert len(quorum.check(text)) == len(signers)
        else:
            with pytest.raises(LogInvalid, match="demanded"):
                quorum.check(text)


def test_a_witness_counts_once_however_often_it_signed():
    text = SIGNED + line(time=TIME) + line(time=TIME - 5) + line(time=TIME + 5)
    assert cosignatures(text, WITNESSES) == (Cosignature(WITNESSES[0], TIME - 5),)
    with pytest.raises(LogInvalid):
        Quorum(2, WITNESSES).check(text)


def test_strangers_and_other_names_of_a_known_key_do_not_count():
    text = SIGNED + line(key=generate_ed25519()) + line(0, name="alias.example")
    assert cosignatures(text, WITNESSES) == ()


def test_a_logs_own_signature_is_no_cosignature_though_it_have_the_name_and_the_key():
    witness = Witness(LOG, raw_public(LOG_KEY))
    assert cosignatures(SIGNED, [witness]) == ()
    with pytest.raises(MalformedRecord):
        Witness.parse(note.verifier_key(LOG, raw_public(LOG_KEY)))
    with pytest.raises(MalformedRecord):
        note.parse_verifier_key(WITNESSES[0].key)


@pytest.mark.parametrize(
    "bad",
    [
        line(state=Checkpoint(LOG, 8, STATE.root)),
        line(state=Checkpoint(LOG, 7, bytes(32))),
        line(state=Checkpoint("another.example", 7, STATE.root)),
        claimed(TIME.to_bytes(8, "big") + bytes(64)),
        claimed(bytes(71)),
        claimed(bytes(73)),
        claimed(b"x"),
        claimed((2**63).to_bytes(8, "big") + KEYS[0].sign(f"cosignature/v1\ntime {2**63}\n{STATE.text()}".encode())),
        claimed(TIME.to_bytes(8, "big") + KEYS[0].sign(STATE.text().encode())),
        claimed((TIME + 1).to_bytes(8, "big") + base64.b64decode(line().split(" ")[2])[12:]),
    ],
    ids=range(10),
)
def test_a_line_of_a_named_witness_that_does_not_hold_refuses_the_note(bad):
    assert bad.startswith(f"— {NAMES[0]} ")
    with pytest.raises(LogInvalid):
        cosignatures(SIGNED + line(1) + bad, WITNESSES)
    assert cosignatures(SIGNED + line(1) + bad, WITNESSES[1:]) == (Cosignature(WITNESSES[1], TIME),)


@given(position=st.integers(0, len(line()) - 1), character=st.characters())
@settings(max_examples=60, deadline=None)
def test_no_changed_character_makes_another_cosignature(position, character):
    good = line()
    changed = good[:position] + character + good[position + 1 :]
    if changed != good:
        try:
            found = cosignatures(SIGNED + changed, WITNESSES[:1])
        except (LogInvalid, MalformedRecord):
            found = ()
        assert found == ()


@pytest.mark.parametrize(
    ("least", "witnesses"),
    [
        *((0, WITNESSES), (4, WITNESSES), (1, ()), (1, WITNESSES[:1] * 2)),
        (1, (WITNESSES[0], Witness("alias", WITNESSES[0].public))),
        (1, (WITNESSES[0], Witness(NAMES[0], WITNESSES[1].public))),
    ],
)
def test_a_quorum_that_means_nothing_cannot_be_made(least, witnesses):
    with pytest.raises(UsageError):
        Quorum(least, witnesses)


@pytest.mark.parametrize(("name", "time"), [("", TIME), ("a b", TIME), ("a+b", TIME), ("a", -1), ("a", 2**63)])
def test_a_cosignature_that_cannot_be_is_not_made(name, time):
    with pytest.raises(UsageError):
        cosign(STATE, name, KEYS[0], time=time)


@given(name=st.text(min_size=1, max_size=40).filter(note.is_key_name), public=st.binary(min_size=32, max_size=32))
@settings(max_examples=40, deadline=None)
def test_the_key_of_a_witness_travels(name, public):
    witness = Witness(name, public)
    assert Witness.parse(witness.key) == witness


def test_of_a_witness_answer_exactly_its_own_line_is_taken():
    text = STATE.text()
    assert pick_line(text, line(1) + line(0) + line(2), WITNESSES[0]) == line(0)
    for answer in (
        *("", "\n", line(1), line()[:-1], line() + line(time=TIME + 1), line() + "\n"),
        *(line(key=KEYS[1]), line(state=Checkpoint(LOG, 8, STATE.root)), "<html>\n", "— \ud800 AAAAAAAA\n"),
    ):
        with pytest.raises((LogInvalid, MalformedRecord)):
            pick_line(text, answer, WITNESSES[0])


def test_a_proof_without_the_demanded_cosignatures_is_refused():
    leaf = Leaf("key", TIME, "key", (), "")
    data = codec.encode(leaf)
    state = Checkpoint(LOG, 1, merkle.leaf_hash(data))
    text, quorum = sign_checkpoint(state, LOG, LOG_KEY), Quorum(2, WITNESSES)

    def check(checkpoint):
        proof = LogProof(0, data, (), checkpoint)
        return verify_proof(proof, origin=LOG, log_key=raw_public(LOG_KEY), witnesses=quorum)

    assert check(text + line(0, state=state) + line(2, state=state)) == leaf
    for lines in ("", line(0, state=state), line(0, state=state) * 2, line(0) + line(1, state=state)):
        with pytest.raises(LogInvalid):
            check(text + lines)
