"""What a worker is told of witnesses, and that it is measured."""

import threading
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto.signatures import generate_p256
from strongroom.errors import FileUnreadable, MalformedRecord, UsageError
from strongroom.receipts.cosignature import Quorum, Witness
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.policy import Requirement
from strongroom.records.worker import Configuration
from strongroom.release.client import BrokerClient
from strongroom.release.enrolments import Enroller
from strongroom.release.opening import open_broker
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.services.worker import Surroundings, configuration, quorum
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.tpm import parse_key
from strongroom.tee.tpm.enrol import open_enrolment
from strongroom_sim import Chip, Installation, abi
from strongroom_sim.tpm import Tpm, TpmMaker
from strongroom_sim.tpm_wire import TpmDevice

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


def test_a_worker_is_enrolled_by_its_broker_only_where_its_tpm_has_a_key_of_its_own(tmp_path):
    now = int(time.time())
    tpm, key = Tpm(TpmMaker.generate(now=now), now), generate_p256()
    (tmp_path / "above.pem").write_bytes(b"".join(x.public_bytes(Encoding.PEM) for x in (tpm.maker.ca, tpm.maker.root)))
    root = installation_anchor("tpm", tpm.maker.root_pem)
    enroller = Enroller(generate_p256(), (root,), revocation=Requirement(any="no lists here"))
    broker = open_broker(
        tmp_path / "broker", anchors=(root,), owners=[key.public_key()], profile="development", enroller=enroller
    )
    told = replace(surroundings(tmp_path), collateral=tmp_path / "above.pem", tee_root=tmp_path / "machine", enrol=True)
    stop = threading.Event()
    with TpmDevice(tpm, told.tee_root) as device, BackgroundServer(broker_app(broker)) as server:
        serving = threading.Thread(target=device.serve, args=(stop.is_set,))
        serving.start()
        try:
            client = BrokerClient(server.url, fingerprint=broker.identity.fingerprint)
            note = told.place(client).collateral().tpm.enrolment
        finally:
            stop.set()
            serving.join()
    broker.close()
    assert open_enrolment(note, [enroller.anchor], now + 5).ak_name == parse_key(tpm.ak_public).name


def test_other_hardware_is_not_enrolled(tmp_path):
    chip = Chip(Installation.create(tmp_path / "sim", now=int(time.time())), mrtd=bytes(48))
    with (
        abi.Device(chip, tmp_path / "tee"),
        pytest.raises(UsageError, match="attestation key of its own"),
    ):
        replace(surroundings(tmp_path), tee_root=tmp_path / "tee", enrol=True).place(None)


def test_what_stands_above_the_endorsement_key_must_be_there(tmp_path):
    told = replace(surroundings(tmp_path), collateral=tmp_path / "missing.pem")
    with pytest.raises(FileUnreadable):
        told._above()
