"""A broker enrols a TPM: what it signs, what it refuses, and that a ticket is good once."""

import dataclasses
import threading

import pytest

from strongroom.crypto.signatures import generate_ed25519, public_to_der
from strongroom.errors import (
    DeviceUnavailable,
    LogInvalid,
    MalformedEvidence,
    NonceReused,
    ReleaseRefused,
    SignatureInvalid,
    UsageError,
)
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.enrolment import Enrolled, EnrolmentAnswer, EnrolmentRequest
from strongroom.records.evidence import Collateral, TpmCollateral
from strongroom.records.policy import Requirement
from strongroom.records.revocation import About, Subject
from strongroom.records.tpm import TpmEnrolment
from strongroom.records.verdict import RootClass
from strongroom.release.challenges import LIFETIME_SECONDS
from strongroom.release.client import BrokerClient
from strongroom.release.enrolment_client import enrol_at
from strongroom.release.enrolments import Enroller, Enrolments
from strongroom.release.present import Given, Present
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.tpm import Collector, parse_key
from strongroom.tee.tpm.credential import Credential
from strongroom.tee.tpm.enrol import open_enrolment
from strongroom_sim.tpm import Tpm, TpmMaker
from strongroom_sim.tpm_wire import Wire

LIFE = 86_400


@pytest.fixture(scope="module")
def maker():
    return TpmMaker.generate(now=1_800_000_000)


@pytest.fixture
def tpm(maker, world):
    return Tpm(maker, world.now)


@pytest.fixture
def enroller(maker):
    return Enroller(generate_ed25519(), (installation_anchor("tpm", maker.root_pem),), LIFE)


@pytest.fixture
def enrolments(world, enroller):
    """Those of the world's broker, which so enrols TPMs."""
    present = Present((), Given())
    made = Enrolments(world.store, world.broker.log, world.keys.challenge, enroller=enroller, present=present)
    world.broker.enrolments = made
    return made


def collector(tpm):
    return Collector(connect=lambda: Wire(tpm))


def request(world, tpm, algorithm="rsa", **changes):
    _, ek, ak = collector(tpm).keys(algorithm)
    return dataclasses.replace(EnrolmentRequest(tpm.ek_collateral(world.now), ek, ak), **changes)


def opened(tpm, challenge):
    return collector(tpm).activate(Credential(challenge.blob, challenge.seed))


def answered(enrolments, world, tpm):
    challenge = enrolments.begin(request(world, tpm), now=world.now)
    return EnrolmentAnswer(challenge.ticket, opened(tpm, challenge))


def test_a_tpm_is_enrolled_and_its_note_is_a_leaf(world, enrolments, enroller, tpm):
    done = enrolments.finish(answered(enrolments, world, tpm), now=world.now)
    trust = open_enrolment(done.note.to_bytes(), [enroller.anchor], world.now)
    assert trust.ak_name == parse_key(tpm.ak_public).name
    assert (trust.root_class, trust.source) == (RootClass.INSTALLATION, "enrolment")
    with pytest.raises(SignatureInvalid):
        open_enrolment(done.note.to_bytes(), [enroller.anchor], world.now + LIFE + 1)
    leaf = world.leaves()[-1]
    assert (leaf.event, leaf.digests) == ("enrolment", (digest_bytes(done.note.to_bytes()),))
    assert leaf.detail == f"root_class=installation until={world.now + LIFE}"
    assert world.logged()[-1] == leaf, "nothing of it is hidden, and it names no machine"


def test_nothing_is_kept_or_logged_before_the_answer(world, enrolments, tpm):
    before = world.log_size()
    for _ in range(20):
        enrolments.begin(request(world, tpm), now=world.now)
    assert world.log_size() == before
    assert vars(enrolments).keys() == {"_store", "_log", "_secret", "_enroller", "_present"}


def test_a_ticket_is_good_once_also_for_a_wrong_secret(world, enrolments, tpm):
    answer = answered(enrolments, world, tpm)
    enrolments.finish(answer, now=world.now)
    with pytest.raises(NonceReused):
        enrolments.finish(answer, now=world.now)
    answer = answered(enrolments, world, tpm)
    with pytest.raises(SignatureInvalid, match="came back wrong"):
        enrolments.finish(dataclasses.replace(answer, secret=bytes(32)), now=world.now)
    with pytest.raises(NonceReused):
        enrolments.finish(answer, now=world.now)


@pytest.mark.parametrize("secret", [b"", b"\0" * 31, b"\0" * 33])
def test_a_secret_of_another_length_is_wrong(world, enrolments, tpm, secret):
    answer = answered(enrolments, world, tpm)
    with pytest.raises(SignatureInvalid):
        enrolments.finish(dataclasses.replace(answer, secret=secret), now=world.now)


def test_two_answers_at_once_make_one_note(world, enrolments, tpm):
    answer, made = answered(enrolments, world, tpm), []

    def finish():
        try:
            made.append(enrolments.finish(answer, now=world.now))
        except NonceReused as error:
            made.append(error)

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(found) for found in made].count(Enrolled) == 1
    assert len(made) == 4


def test_a_ticket_ends(world, enrolments, tpm):
    answer = answered(enrolments, world, tpm)
    with pytest.raises(ReleaseRefused) as refused:
        enrolments.finish(answer, now=world.now + LIFETIME_SECONDS)
    assert refused.value.detail == "enrolment.expired"


@pytest.mark.parametrize(
    "change",
    [
        {"ak_name": "000b" + "11" * 32},
        {"endorsement": digest_bytes(b"another machine")},
        {"root_class": RootClass.SILICON},
        {"root": digest_bytes(b"another root")},
        {"nonce": bytes(32)},
        {"expires": 1_800_000_060},
        {"mac": bytes(32)},
        {"mac": b""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_ticket_that_was_changed_is_none_and_consumes_nothing(world, enrolments, tpm, change):
    answer = answered(enrolments, world, tpm)
    changed = dataclasses.replace(answer, ticket=dataclasses.replace(answer.ticket, **change))
    with pytest.raises(ReleaseRefused) as refused:
        enrolments.finish(changed, now=world.now)
    assert refused.value.detail == "enrolment.mac"
    enrolments.finish(answer, now=world.now)


def test_the_ticket_of_another_broker_is_none(world, enrolments, enroller, tpm):
    other = Enrolments(world.store, world.broker.log, bytes(32), enroller=enroller, present=None)
    with pytest.raises(ReleaseRefused):
        enrolments.finish(answered(other, world, tpm), now=world.now)


def test_another_tpm_opens_nothing_and_its_secret_is_wrong(world, enrolments, maker, tpm):
    """The credential of one machine, given to another one of the same maker; and that one's own secret instead."""
    other = Tpm(maker, world.now)
    challenge = enrolments.begin(request(world, tpm), now=world.now)
    with pytest.raises(DeviceUnavailable):
        opened(other, challenge)
    own = answered(enrolments, world, other)
    with pytest.raises(SignatureInvalid):
        enrolments.finish(EnrolmentAnswer(challenge.ticket, own.secret), now=world.now)


def test_another_attestation_key_is_not_enrolled(world, enrolments, maker, tpm):
    """One that the TPM does not hold: its credential does not open. One that is no attestation key at all: none is made."""
    other = Tpm(maker, world.now)
    challenge = enrolments.begin(request(world, tpm, ak=other.ak_public), now=world.now)
    with pytest.raises(DeviceUnavailable):
        opened(tpm, challenge)
    _, ek, _ = collector(tpm).keys()
    with pytest.raises(SignatureInvalid, match="attestation key"):
        enrolments.begin(request(world, tpm, ak=ek), now=world.now)


def test_an_endorsement_key_of_another_maker_is_refused(world, enrolments):
    stranger = Tpm(TpmMaker.generate(now=world.now), world.now)
    with pytest.raises(SignatureInvalid, match="trust anchors"):
        enrolments.begin(request(world, stranger), now=world.now)


def test_an_endorsement_key_that_the_certificate_is_not_of_is_refused(world, enrolments, maker, tpm):
    _, other, _ = collector(Tpm(maker, world.now)).keys()
    with pytest.raises(SignatureInvalid, match="another key"):
        enrolments.begin(request(world, tpm, ek=other), now=world.now)


def test_a_revoked_endorsement_key_is_refused_also_by_the_brokers_own_newer_list(world, enroller, maker, tpm):
    from cryptography import x509

    serial = x509.load_der_x509_certificate(tpm.nv[0x01C00002]).serial_number
    leaf = x509.load_der_x509_certificate(tpm.nv[0x01C00002])
    given = Given()
    newer = maker.collateral(leaf, world.now + 60, revoked=[serial])
    given.collateral.add(codec.encode(Collateral(tpm=newer)))
    for present, brought in ((None, newer), (Present((), given), tpm.ek_collateral(world.now))):
        enrolments = Enrolments(world.store, world.broker.log, bytes(32), enroller=enroller, present=present)
        with pytest.raises(SignatureInvalid, match="revoked"):
            enrolments.begin(request(world, tpm, endorsement=brought), now=world.now + 60)


def test_without_lists_it_is_refused_but_for_a_reason(world, enroller, tpm):
    chain = dataclasses.replace(tpm.ek_collateral(world.now), crls=())
    for reason, passes in ((None, False), ("this CA publishes none", True)):
        asked = enroller if reason is None else dataclasses.replace(enroller, revocation=Requirement(any=reason))
        enrolments = Enrolments(world.store, world.broker.log, bytes(32), enroller=asked, present=None)
        if passes:
            enrolments.begin(request(world, tpm, endorsement=chain), now=world.now)
            continue
        with pytest.raises(SignatureInvalid):
            enrolments.begin(request(world, tpm, endorsement=chain), now=world.now)


@pytest.mark.parametrize("name", ["endorsement", "ak_name"])
def test_a_machine_that_an_owner_revoked_is_not_enrolled(world, enrolments, tpm, name):
    answer = answered(enrolments, world, tpm)
    subject = Subject(About.MACHINE, f"{name}:{getattr(answer.ticket, name)}")
    world.admin.revocations.revoke(subject, who=world.who, now=world.now)
    with pytest.raises(ReleaseRefused) as refused:
        enrolments.finish(answer, now=world.now)
    assert refused.value.detail == "revoked.machine"


def test_a_broker_that_enrols_nobody_says_so(world, tpm):
    for ask, word in ((world.broker.enrolments.begin, request(world, tpm)),):
        with pytest.raises(ReleaseRefused, match="enrols no TPMs") as refused:
            ask(word, now=world.now)
        assert refused.value.detail == "enrolment.none"


@pytest.mark.parametrize("name", ["ek", "ak"])
@pytest.mark.parametrize("data", [b"", b"\0", bytes(64), b"\xff" * 4096])
def test_keys_that_are_none_do_not_parse(world, enrolments, tpm, name, data):
    with pytest.raises((MalformedEvidence, SignatureInvalid, UsageError)):
        enrolments.begin(request(world, tpm, **{name: data}), now=world.now)


def test_certificates_that_are_none_do_not_parse(world, enrolments, tpm):
    for chain in ("", "no certificate", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"):
        with pytest.raises((MalformedEvidence, SignatureInvalid)):
            enrolments.begin(request(world, tpm, endorsement=TpmCollateral(chain, ())), now=world.now)


class Client:
    """A broker's client whose answers are changed on the way."""

    def __init__(self, client, change):
        self._client, self._change = client, change
        self.identity, self.witnesses = client.identity, client.witnesses

    def post(self, path, record, kind):
        return self._change(self._client.post(path, record, kind))


@pytest.fixture
def client(world, enrolments):
    assert world.broker.enrolments is enrolments
    with BackgroundServer(broker_app(world.broker, clock=lambda: world.now)) as server:
        made = BrokerClient(server.url, fingerprint=world.broker.identity.fingerprint)
        yield made
        made.close()


def test_a_machine_is_enrolled_over_http_and_checks_what_it_got(world, client, enroller, tpm):
    envelope, note = enrol_at(client, request(world, tpm), collector(tpm).activate)
    assert note.verifier == public_to_der(enroller.key.public_key())
    assert codec.decode(TpmEnrolment, envelope.payload) == note


def test_a_note_that_was_not_logged_or_is_of_another_key_is_refused(world, client, maker, tpm):
    _, other = enrol_at(client, request(world, other_tpm := Tpm(maker, world.now)), collector(other_tpm).activate)
    kept = []

    def exchanged(answer):
        if isinstance(answer, Enrolled):
            kept.append(answer)
            return dataclasses.replace(answer, note=dataclasses.replace(answer.note, payload=codec.encode(other)))
        return answer

    with pytest.raises(LogInvalid):
        enrol_at(Client(client, exchanged), request(world, tpm), collector(tpm).activate)
    again = Client(client, lambda answer: kept[0] if isinstance(answer, Enrolled) else answer)
    with pytest.raises(LogInvalid):
        enrol_at(again, request(world, other_tpm), collector(other_tpm).activate)
