"""Bodies of add-checkpoint."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto.signatures import generate_ed25519
from strongroom.errors import MalformedRecord
from strongroom.receipts.note import MAX_SIZE, Checkpoint, sign_checkpoint
from strongroom.receipts.witness import MAX_BODY_BYTES, Submission, add_checkpoint_body, parse_size, parse_submission

NAME = "broker.example/log"
NOTE = sign_checkpoint(Checkpoint(NAME, 7, bytes(32)), NAME, generate_ed25519())
HASH = base64.b64encode(bytes(32)).decode()
EXAMPLE = (
    "old 20852014\n"
    "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
    "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
    "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
    "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
    "\n"
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeM"
    "cTOAYQ8=\n"
)


def test_the_example_of_the_specification_is_read():
    submission = parse_submission(EXAMPLE.encode())
    assert (submission.old, submission.origin) == (20852014, "example.com/behind-the-sofa")
    assert [base64.b64encode(one).decode() for one in submission.path] == EXAMPLE.split("\n")[1:5]
    assert submission.to_bytes() == EXAMPLE.encode()


@given(old=st.integers(0, MAX_SIZE), path=st.lists(st.binary(min_size=32, max_size=32), max_size=63))
@settings(max_examples=40, deadline=None)
def test_a_submission_travels(old, path):
    assert parse_submission(add_checkpoint_body(old, path, NOTE)) == Submission(old, tuple(path), NOTE)


@pytest.mark.parametrize(
    "head",
    [
        *("", "old", "old ", "old -1", "old 01", "old +1", "old 1 ", " old 1", "Old 1", "old\t1", "old ٣", "new 1"),
        *(f"old {2**63}", "old " + "9" * 5000, "old 1\r", "old 1\n" + HASH[:-1], "old 1\n " + HASH),
        *("old 1\n" + base64.b64encode(bytes(31)).decode(), "old 1\nx", "\nold 1", "old 1\n" + "\n".join([HASH] * 64)),
    ],
)
def test_a_head_that_is_not_exactly_one_is_refused(head):
    with pytest.raises(MalformedRecord):
        parse_submission(f"{head}\n\n{NOTE}".encode())


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"old 1\n\n", b"old 1\n" + NOTE.encode(), b"old 1\n\n\n" + NOTE.encode(), b"\xff\xfe"),
        *(b"old 1\n\n" + NOTE.encode()[:-1], b"old 1\n\n" + NOTE.partition("\n\n")[0].encode()),
        b"old 1\n\n" + NOTE.encode() + b"x" * MAX_BODY_BYTES,
    ],
)
def test_a_body_that_is_not_exactly_one_is_refused(body):
    with pytest.raises(MalformedRecord):
        parse_submission(body)


def test_a_size_is_one_number_in_one_line():
    assert [parse_size(text) for text in (b"0\n", b"7\n", f"{MAX_SIZE}\n".encode())] == [0, 7, MAX_SIZE]
    for text in (
        b"",
        b"7",
        b"07\n",
        b"-1\n",
        b"7\n\n",
        b"7 \n",
        f"{2**63}\n".encode(),
        b"9" * 10_000,
        b"\xff\n",
        b"\n",
    ):
        with pytest.raises(MalformedRecord):
            parse_size(text)
