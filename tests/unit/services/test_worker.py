"""What a worker is told of witnesses, and that it is measured."""

import pytest

from strongroom.crypto.signatures import generate_p256
from strongroom.errors import MalformedRecord, UsageError
from strongroom.receipts.cosignature import Quorum, Witness
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.worker import Configuration
from strongroom.services.worker import Surroundings, configuration, quorum

BROKER = digest_bytes(b"a broker")
WANTED = Quorum(1, (Witness("w1.example", bytes(32)), Witness("w2.example", b"2" * 32)))


def surroundings(tmp_path, witnesses=None):
    return Surroundings(
        broker="http://broker",
        broker_fingerprint=BROKER,
        signer=generate_p256().public_key(),
        image=digest_bytes(b"image"),
        launch_spec=None,
        collateral=tmp_path,
        tee_root=tmp_path,
        tee_kind=None,
        profile="development",
        witnesses=witnesses,
    )


def test_witnesses_are_part_of_what_is_measured(tmp_path):
    named = configuration("inference", surroundings(tmp_path, WANTED), {})
    nobody = configuration("inference", surroundings(tmp_path), {})
    assert (quorum(named), quorum(nobody)) == (WANTED, None)
    assert named.digest != nobody.digest
    assert codec.decode(Configuration, codec.encode(named)) == named


@pytest.mark.parametrize(("keys", "least"), [((), 1), (("a",), 0), (("a",), 2), (("a",), -1)])
def test_numbers_that_ask_for_nothing_or_for_too_many_are_no_configuration(keys, least):
    with pytest.raises(ValueError, match="witnesses"):
        Configuration("inference", BROKER, {}, None, keys, least)


@pytest.mark.parametrize("keys", [("no key",), (WANTED.witnesses[0].key,) * 2])
def test_keys_that_are_none_start_no_worker(keys):
    with pytest.raises((MalformedRecord, UsageError)):
        quorum(Configuration("inference", BROKER, {}, None, keys, 1))
