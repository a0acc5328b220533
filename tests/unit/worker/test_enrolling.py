"""When a machine's note is made and renewed."""

import dataclasses

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.appraisal.pile import Pile
from strongroom.crypto.signatures import generate_ed25519
from strongroom.errors import DeviceUnavailable, ServiceUnavailable
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.records.tpm import TpmEnrolment
from strongroom.records.verdict import RootClass
from strongroom.tee.tpm import Collector, enrol, parse_key
from strongroom.worker import enrolling
from strongroom.worker.enrolling import RETRY_SECONDS, Enrolling
from strongroom_sim.tpm import Tpm, TpmMaker
from strongroom_sim.tpm_wire import Wire

NOW = 1_800_000_000
LIFE = 86_400


@dataclasses.dataclass
class Scene:
    """A machine that is enrolled by a double of the broker's two paths; `now` is its clock."""

    tpm: Tpm
    now: int = NOW
    away: bool = False
    asked: int = 0

    def enrol_at(self, _broker, request, _activate):
        self.asked += 1
        if self.away:
            raise ServiceUnavailable("the broker does not answer")
        note = enrol.sign_note(
            parse_key(request.ak).name,
            endorsement="sha256:" + "11" * 32,
            root="sha256:" + "22" * 32,
            root_class=RootClass.INSTALLATION,
            key=generate_ed25519(),
            now=self.now,
            life=LIFE,
        )
        return note, codec.decode(TpmEnrolment, note.payload)

    def above(self):
        pile, maker = Pile(now=self.now), self.tpm.maker
        for found in (maker.ca, maker.root):
            pile.add(found.public_bytes(Encoding.PEM))
        return pile


@pytest.fixture
def scene(monkeypatch):
    made = Scene(Tpm(TpmMaker.generate(now=NOW), NOW))
    monkeypatch.setattr(enrolling, "enrol_at", made.enrol_at)
    return made


@pytest.fixture
def source(scene):
    return Enrolling(Collector(connect=lambda: Wire(scene.tpm)), None, scene.above, lambda: scene.now)


def until(collateral):
    return codec.decode(TpmEnrolment, Envelope.from_bytes(collateral.tpm.enrolment).payload).not_after


def test_a_note_is_made_once_and_kept_for_half_of_its_life(scene, source):
    first = source()
    scene.now = NOW + LIFE // 2 - 1
    assert source() == first
    assert scene.asked == 1
    scene.now += 1
    assert until(source()) == scene.now + LIFE
    assert scene.asked == 2


def test_where_it_cannot_be_renewed_the_old_one_is_shown_as_long_as_it_holds_and_no_longer(scene, source):
    first = source()
    scene.away, scene.now = True, NOW + LIFE // 2
    assert source() == source() == first
    assert scene.asked == 2, "the broker is left alone for a while"
    scene.now += RETRY_SECONDS
    assert source() == first
    assert scene.asked == 3
    scene.now = NOW + LIFE + 1
    with pytest.raises(ServiceUnavailable):
        source()
    scene.away = False
    assert until(source()) == scene.now + LIFE


def test_an_elliptic_endorsement_key_is_taken_where_there_is_no_other_and_none_is_an_error(scene, source):
    del scene.tpm.nv[0x01C00002]
    assert source().tpm.enrolment
    del scene.tpm.nv[0x01C0000A]
    scene.now = NOW + 2 * LIFE
    with pytest.raises(DeviceUnavailable, match="no certificate"):
        source()
