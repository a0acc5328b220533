"""A worker on a machine with a software TPM has itself enrolled by its broker, and is then released keys by a policy on TPMs.

Real parts: swtpm with endorsement keys that a certificate authority certified, a broker over HTTP, a worker's whole life.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from software_tpm import SoftwareTpm, software_tpm
from world import IMAGE, EchoEngine, Served, World

from strongroom.appraisal.pile import Pile
from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.signatures import generate_p256
from strongroom.errors import AppraisalRefused, DeviceUnavailable, NonceReused, ReleaseRefused, SignatureInvalid
from strongroom.records import codec
from strongroom.records.enrolment import Enrolled, EnrolmentAnswer, EnrolmentChallenge, EnrolmentRequest
from strongroom.records.evidence import TpmCollateral
from strongroom.records.policy import Reference, Requirement
from strongroom.records.tpm import TpmQuote
from strongroom.release.enrolment_client import ANSWERS_PATH
from strongroom.release.enrolments import Enroller, Enrolments
from strongroom.release.opening import open_broker
from strongroom.release.wire import ENROLMENTS_PATH
from strongroom.services.broker import broker_app
from strongroom.services.gateway import front
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.tpm.credential import Credential
from strongroom.worker.enrolling import Enrolling
from strongroom.worker.life import Place
from strongroom.workloads.inference.models import Model
from strongroom.workloads.inference.workload import InferenceWorkload

pytestmark = pytest.mark.needs("swtpm", "swtpm_setup", "swtpm_localca")

NO_LISTS = Requirement(any="this CA publishes no revocation lists")
BOOT = (0, 2, 4, 7, 8, 9, 12, 13)


class TpmWorld(World):
    """A world whose machines have a TPM, and whose broker enrols those of one maker."""

    def __init__(self, folder: Path, tpm: SoftwareTpm, **options: Any) -> None:
        self.tpm = tpm
        super().__init__(folder, **options)
        self.broker.store.close()
        root = installation_anchor("tpm", tpm.root)
        self.broker = open_broker(
            folder / "broker",
            anchors=(root,),
            owners=[self.owner.public_key()],
            profile="development",
            enroller=Enroller(generate_p256(), (root,), revocation=NO_LISTS),
        )
        self.server = BackgroundServer(broker_app(self.broker))

    def make_policy(self, **changed: Any) -> Any:
        """The registers as they are now, by this one image."""
        shown = codec.decode(TpmQuote, self.tpm.collector().quote(bytes(32))).pcrs["sha256"]
        reference = Reference(IMAGE, "tpm", {f"pcr{index}": (shown[str(index)],) for index in BOOT})
        made = template("policy", references=[reference], artifacts=[self.artifact], simulated=True, kind="tpm")
        made = dataclasses.replace(
            made,
            configuration=Requirement(one_of=(self.configuration.digest,)),
            launch_spec=Requirement(one_of=("none",)),
            lease_seconds=self.lease_seconds,
            tpm=dataclasses.replace(
                made.tpm,  # type: ignore[type-var]
                source=Requirement(one_of=("enrolment",)),
                secure_boot=Requirement(any="this firmware is a test's"),
                **changed,
            ),
        )
        assert made.revocation.one_of == ("checked",)
        return made

    def place(self, **_: Any) -> Place:
        device = self.tpm.collector()
        source = Enrolling(device, self.broker_client(), self.above, lambda: int(time.time()))
        return Place("tpm", device, source, IMAGE, None)

    def above(self) -> Pile:
        pile = Pile(now=int(time.time()))
        pile.add((self.tpm.issuer + self.tpm.root).encode())
        return pile

    def request(self, tpm: SoftwareTpm) -> EnrolmentRequest:
        from cryptography.hazmat.primitives.serialization import Encoding

        from strongroom.crypto import x509

        certificate, ek, ak = tpm.collector().keys()
        leaf = x509.load_certificate(certificate).public_bytes(Encoding.PEM).decode()
        return EnrolmentRequest(TpmCollateral(leaf + tpm.issuer + tpm.root, ()), ek, ak)

    def begun(self, request: EnrolmentRequest) -> EnrolmentChallenge:
        return self.broker_client().post(ENROLMENTS_PATH, request, EnrolmentChallenge)


@dataclass
class Scene:
    """A machine that the broker enrols, and one of another maker."""

    world: TpmWorld
    stranger: SoftwareTpm

    @property
    def tpm(self) -> SoftwareTpm:
        return self.world.tpm


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("enrolment")
    with software_tpm(folder / "one") as tpm, software_tpm(folder / "other") as stranger:
        for register in BOOT:
            for one in (tpm, stranger):
                _measure(one, register)
        world = TpmWorld(folder, tpm, lease_seconds=4)
        world.open()
        try:
            yield Scene(world, stranger)
        finally:
            world.close()


def _measure(tpm: SoftwareTpm, register: int) -> None:
    """What a firmware does at boot; the collector itself extends only the register of run time."""
    from strongroom.tee.tpm.commands import Commands

    channel = tpm.connect()
    try:
        Commands(channel).extend(register, "sha256", bytes([register + 1]) * 32)
    finally:
        channel.close()


def opened(tpm: SoftwareTpm, challenge: EnrolmentChallenge) -> bytes:
    return tpm.collector().activate(Credential(challenge.blob, challenge.seed))


def test_a_worker_enrols_itself_is_released_its_keys_renews_and_opens_another_model_later(scene: Scene):
    world, tag, engines = scene.world, ["model"], []
    second = world.seal("second", b"GGUF other-weights")
    world.policy = dataclasses.replace(world.policy, version=2, artifacts=Requirement(one_of=(world.artifact, second)))
    world.admin.put_policy(sign_policy(world.policy, world.owner))

    def engine() -> EchoEngine:
        engines.append(EchoEngine())
        return engines[-1]

    served = Served(world, EchoEngine(), {})
    workload = InferenceWorkload.of([Model({"name": "echo"}, engine)], front("127.0.0.1", 0, served._serves))
    served._options |= {"workload": workload, "again": lambda: [world.opener(tag[0])]}
    served.start()
    try:
        assert served.url, served.error
        client = world.broker_client(identity=world.owner)
        began = time.monotonic()
        while not any(lease.renewals for lease in client.leases()):
            assert time.monotonic() < began + 30
            time.sleep(0.1)
        tag[0] = "second"  # measured into register 15 of the TPM, which the next quote shows
        served.loop.call_soon_threadsafe(served.worker.look_again)
        while not (len(engines) == 2 and engines[0].killed):
            assert time.monotonic() < began + 60
            time.sleep(0.1)
    finally:
        served.stop()
    assert served.error is None
    assert engines[1].loaded == b"GGUF other-weights"
    events = [leaf.event for leaf in world.broker.store.read(_leaves)]
    assert events.count("enrolment") == 1
    assert events.index("enrolment") < events.index("release") < events.index("renewal")


def _leaves(reader: Any) -> list[Any]:
    from strongroom.records.release import Leaf

    return [codec.decode(Leaf, leaf) for leaf in reader.log_leaves(0, reader.log_size())]


def test_the_same_machine_without_a_note_is_refused(scene: Scene):
    """Also with a note that somebody else signed, whom the broker does not know."""
    world = scene.world
    from strongroom.records.evidence import Collateral

    stranger = Enrolments(
        world.broker.store,
        world.broker.log,
        bytes(32),
        enroller=Enroller(generate_p256(), (installation_anchor("tpm", scene.tpm.root),), revocation=NO_LISTS),
        present=None,
    )
    now = int(time.time())
    challenge = stranger.begin(world.request(scene.tpm), now=now)
    note = stranger.finish(EnrolmentAnswer(challenge.ticket, opened(scene.tpm, challenge)), now=now).note
    for shown in (TpmCollateral("", ()), TpmCollateral("", (), note.to_bytes())):
        place = dataclasses.replace(world.place(), collateral=lambda shown=shown: Collateral(tpm=shown))
        with world.serving(place=place) as served:
            assert not served.url
        assert isinstance(served.error, AppraisalRefused)
        assert set(served.error.failed) & {"tpm.ak", "tpm.ak.enrolment"}


def test_a_tpm_of_another_maker_is_refused(scene: Scene):
    with pytest.raises(SignatureInvalid, match="trust anchors"):
        scene.world.begun(scene.world.request(scene.stranger))
    mixed = dataclasses.replace(scene.world.request(scene.tpm), ek=scene.world.request(scene.stranger).ek)
    with pytest.raises(SignatureInvalid, match="another key"):
        scene.world.begun(mixed)


def test_the_attestation_key_of_another_tpm_is_refused_by_the_tpm_itself(scene: Scene):
    request = dataclasses.replace(scene.world.request(scene.tpm), ak=scene.world.request(scene.stranger).ak)
    challenge = scene.world.begun(request)
    for tpm in (scene.tpm, scene.stranger):
        with pytest.raises(DeviceUnavailable):
            opened(tpm, challenge)


def test_the_answer_to_another_credential_and_an_answer_given_twice_are_refused(scene: Scene):
    world, request = scene.world, scene.world.request(scene.tpm)
    one, other = world.begun(request), world.begun(request)
    secret, client = opened(scene.tpm, one), world.broker_client()
    with pytest.raises(SignatureInvalid, match="came back wrong"):
        client.post(ANSWERS_PATH, EnrolmentAnswer(other.ticket, secret), Enrolled)
    assert client.post(ANSWERS_PATH, EnrolmentAnswer(one.ticket, secret), Enrolled).note
    for again in (EnrolmentAnswer(one.ticket, secret), EnrolmentAnswer(other.ticket, opened(scene.tpm, other))):
        with pytest.raises(NonceReused):
            client.post(ANSWERS_PATH, again, Enrolled)


def test_a_broker_that_enrols_nobody_says_what_to_do(scene: Scene, tmp_path: Path):
    world = World(tmp_path)
    world.open()
    try:
        with pytest.raises(ReleaseRefused, match="enrols no TPMs") as refused:
            world.broker_client().post(ENROLMENTS_PATH, scene.world.request(scene.tpm), EnrolmentChallenge)
    finally:
        world.close()
    assert "--enrol-tpms" in refused.value.remedy
