"""Checkpoints. Peers: sigstore reads our notes; the example of Go's `note` package is a note that others signed."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sigstore._internal.rekor.checkpoint import LogCheckpoint, SignedNote

from strongroom.crypto.signatures import ed25519_public, generate_ed25519, raw_public, verify
from strongroom.errors import LogInvalid, MalformedRecord, UsageError
from strongroom.receipts import note
from strongroom.receipts.note import Checkpoint, open_checkpoint, sign_checkpoint

NAME = "broker.example/log"
KEY = generate_ed25519()
PUBLIC = raw_public(KEY)
OTHER = generate_ed25519()
STATE = Checkpoint(NAME, 7, bytes(range(32)))
TEXT = sign_checkpoint(STATE, NAME, KEY)


def signed(body: str, *, name: str = NAME) -> str:
    """A note with any text, and a signature of the log that does hold."""
    line = base64.b64encode(note.key_id(name, PUBLIC) + KEY.sign(body.encode())).decode()
    return f"{body}\n— {name} {line}\n"


@given(size=st.integers(0, note.MAX_SIZE), root=st.binary(min_size=32, max_size=32))
@settings(max_examples=30, deadline=None)
def test_a_checkpoint_travels(size: int, root: bytes):
    state = Checkpoint(NAME, size, root)
    assert open_checkpoint(sign_checkpoint(state, NAME, KEY), NAME, PUBLIC) == state


def test_a_checkpoint_has_the_three_lines_of_the_specification():
    body, _, _ = TEXT.partition("\n\n")
    assert body == f"{NAME}\n7\n{base64.b64encode(bytes(range(32))).decode()}"


def test_sigstore_reads_our_checkpoints():
    peer = SignedNote.from_text(TEXT)
    assert [line.name for line in peer.signatures] == [NAME]
    assert peer.signatures[0].sig_hash == note.key_id(NAME, PUBLIC)
    verify(KEY.public_key(), base64.b64decode(peer.signatures[0].signature), peer.note.encode())
    checkpoint = LogCheckpoint.from_text(peer.note)
    assert (checkpoint.origin, checkpoint.log_size) == (NAME, 7)
    assert bytes.fromhex(checkpoint.log_hash) == STATE.root
    assert checkpoint.other_content == []


def test_the_example_of_the_go_package_holds_under_our_reading():
    """https://pkg.go.dev/golang.org/x/mod/sumdb/note, example of Open; not a checkpoint, so read below that."""
    name, public = note.parse_verifier_key("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    body, ((signer, signature),) = note.parse_note(text)
    assert signer == name
    assert signature[:4] == note.key_id(name, public)
    verify(ed25519_public(public), signature[4:], body.encode())


def test_the_verifier_key_of_the_go_checksum_database_is_read():
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    name, public = note.parse_verifier_key(text)
    assert name == "sum.golang.org"
    assert note.verifier_key(name, public) == text


def test_a_verifier_key_travels():
    assert note.parse_verifier_key(note.verifier_key(NAME, PUBLIC)) == (NAME, PUBLIC)


GOOD_KEY = note.verifier_key(NAME, PUBLIC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        NAME,
        GOOD_KEY + "A",
        GOOD_KEY + "\n",
        GOOD_KEY.replace(NAME, NAME + "2"),
        GOOD_KEY.replace(NAME, "a b"),
        GOOD_KEY.replace(NAME, ""),
        GOOD_KEY.replace("+" + note.key_id(NAME, PUBLIC).hex(), "+" + note.key_id(NAME, PUBLIC).hex().upper() + "x"),
        f"{NAME}+{note.key_id(NAME, PUBLIC).hex()}+{base64.b64encode(PUBLIC).decode()}",
        f"{NAME}+{note.key_id(NAME, PUBLIC).hex()}+{base64.b64encode(bytes([4]) + PUBLIC).decode()}",
        f"{NAME}+{note.key_id(NAME, PUBLIC[:31]).hex()}+{base64.b64encode(bytes([1]) + PUBLIC[:31]).decode()}",
    ],
)
def test_a_verifier_key_that_is_not_exactly_one_is_refused(text: str):
    with pytest.raises(MalformedRecord):
        note.parse_verifier_key(text)


def test_a_checkpoint_of_another_key_is_refused():
    with pytest.raises(LogInvalid):
        open_checkpoint(sign_checkpoint(STATE, NAME, OTHER), NAME, PUBLIC)


def test_a_checkpoint_that_claims_our_key_id_is_refused():
    claimed = base64.b64encode(note.key_id(NAME, PUBLIC) + OTHER.sign(STATE.text().encode())).decode()
    with pytest.raises(LogInvalid):
        open_checkpoint(f"{STATE.text()}\n— {NAME} {claimed}\n", NAME, PUBLIC)


def test_a_checkpoint_of_another_log_is_refused():
    other = sign_checkpoint(Checkpoint("other.example", 7, STATE.root), "other.example", KEY)
    with pytest.raises(LogInvalid):
        open_checkpoint(other, NAME, PUBLIC)


def test_a_log_cannot_sign_for_another_origin():
    with pytest.raises(LogInvalid):
        open_checkpoint(signed(Checkpoint("other.example", 7, STATE.root).text()), NAME, PUBLIC)
    with pytest.raises(UsageError):
        sign_checkpoint(Checkpoint("other.example", 7, STATE.root), NAME, KEY)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n7\n", "\n8\n"),
        lambda text: text.replace("AAEC", "BAEC"),
    ],
)
def test_a_changed_checkpoint_is_refused(change: Callable[[str], str]):
    changed = change(TEXT)
    assert changed != TEXT
    with pytest.raises(LogInvalid):
        open_checkpoint(changed, NAME, PUBLIC)


def cosignature(name: str = "witness.example", length: int = 76) -> str:
    return f"— {name} {base64.b64encode(bytes(length)).decode()}\n"


def test_lines_of_witnesses_may_stand_around_the_logs_own():
    body, _, own = TEXT.partition("\n\n")
    assert open_checkpoint(TEXT + cosignature(), NAME, PUBLIC) == STATE
    assert open_checkpoint(f"{body}\n\n{cosignature()}{own}{cosignature('other.example')}", NAME, PUBLIC) == STATE


def test_a_line_under_the_logs_name_with_another_key_is_ignored():
    body, _, own = TEXT.partition("\n\n")
    assert open_checkpoint(f"{body}\n\n{cosignature(NAME)}{own}", NAME, PUBLIC) == STATE


def test_witnesses_alone_are_not_the_log():
    body, _, _ = TEXT.partition("\n\n")
    with pytest.raises(LogInvalid):
        open_checkpoint(f"{body}\n\n{cosignature()}", NAME, PUBLIC)


def test_a_second_line_of_the_logs_key_must_hold_as_well():
    bad = base64.b64encode(note.key_id(NAME, PUBLIC) + bytes(64)).decode()
    with pytest.raises(LogInvalid):
        open_checkpoint(f"{TEXT}— {NAME} {bad}\n", NAME, PUBLIC)


ROOT_LINE = base64.b64encode(STATE.root).decode()


@pytest.mark.parametrize(
    "body",
    [
        f"{NAME}\n07\n{ROOT_LINE}\n",
        f"{NAME}\n-1\n{ROOT_LINE}\n",
        f"{NAME}\n+7\n{ROOT_LINE}\n",
        f"{NAME}\n 7\n{ROOT_LINE}\n",
        f"{NAME}\n٧\n{ROOT_LINE}\n",
        f"{NAME}\n\n{ROOT_LINE}\n",
        f"{NAME}\n{2**63}\n{ROOT_LINE}\n",
        f"{NAME}\n{'9' * 5000}\n{ROOT_LINE}\n",
        f"{NAME}\n7\n{ROOT_LINE[:-1]}\n",
        f"{NAME}\n7\n{ROOT_LINE} \n",
        f"{NAME}\n7\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{NAME}\n7\n{base64.b64encode(bytes(33)).decode()}\n",
        f"{NAME}\n7\n{base64.urlsafe_b64encode(bytes([255]) * 32).decode()}\n",
        f"{NAME}\n7\n{ROOT_LINE[:-2]}9=\n",
        f"{NAME}\n7\n{ROOT_LINE}\nan extension\n",
        f"{NAME}\n7\n",
        f"\n7\n{ROOT_LINE}\n",
        f"{NAME}\n7\n{ROOT_LINE}\n\n",
        f"{NAME}\r\n7\n{ROOT_LINE}\n",
        f"{NAME}\n7\t\n{ROOT_LINE}\n",
    ],
)
def test_a_body_that_is_not_exactly_a_checkpoint_is_refused_although_it_is_signed(body: str):
    with pytest.raises(MalformedRecord):
        open_checkpoint(signed(body), NAME, PUBLIC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n",
        STATE.text(),
        STATE.text() + "\n",
        TEXT[:-1],
        TEXT + "\n",
        TEXT + "x\n",
        TEXT + "x",
        TEXT.replace("—", "-"),
        TEXT.replace("— ", "—  "),
        TEXT + "— witness.example AAAAAA==\n",
        TEXT + "— witness.example !!!!!!!!!!\n",
        TEXT + "— wit+ness " + base64.b64encode(bytes(76)).decode() + "\n",
        TEXT + "— wit\u2003ness " + base64.b64encode(bytes(76)).decode() + "\n",
        TEXT + "— \ud800 " + base64.b64encode(bytes(76)).decode() + "\n",
        TEXT + cosignature(length=100_000),
    ],
)
def test_a_note_that_is_not_exactly_one_is_refused(text: str):
    with pytest.raises(MalformedRecord):
        open_checkpoint(text, NAME, PUBLIC)


@given(position=st.integers(0, len(TEXT) - 1), character=st.characters())
@settings(max_examples=50, deadline=None)
def test_any_changed_character_is_refused(position: int, character: str):
    changed = TEXT[:position] + character + TEXT[position + 1 :]
    if changed != TEXT:
        with pytest.raises((LogInvalid, MalformedRecord)):
            open_checkpoint(changed, NAME, PUBLIC)


@given(text=st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_other_text_is_refused(text: str):
    with pytest.raises(MalformedRecord):
        open_checkpoint(text, NAME, PUBLIC)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\x00b"])
def test_a_name_that_cannot_stand_in_a_line_does_not_sign(name: str):
    with pytest.raises(UsageError):
        sign_checkpoint(Checkpoint(name, 0, bytes(32)), name, KEY)
    with pytest.raises(UsageError):
        note.verifier_key(name, PUBLIC)


@pytest.mark.parametrize(("size", "root"), [(-1, bytes(32)), (2**63, bytes(32)), (1, bytes(31))])
def test_a_state_that_cannot_be_is_not_signed(size: int, root: bytes):
    with pytest.raises(UsageError):
        sign_checkpoint(Checkpoint(NAME, size, root), NAME, KEY)
