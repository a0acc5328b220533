"""Attacks on the running demo, each of which must be refused with its own error.

Knows: what an operator, a network or a stranger can do: change bytes, swap keys, replay, start other code. Does not know: any private
key of worker, broker or owner. An attack that is not refused, or refused for another reason, is a failure of the demo.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.appraisal.policies import to_toml
from strongroom.channel import v2
from strongroom.client.client import Client
from strongroom.crypto.hpke import ReleaseKey, generate_x25519
from strongroom.crypto.signatures import generate_ed25519, public_from_pem, sign_envelope
from strongroom.demo.frontdoor import FrontDoor, Transform
from strongroom.demo.processes import must, run
from strongroom.demo.stack import MODEL_NAME, Stack, WorkerProcess
from strongroom.errors import StrongroomError
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.policy import Policy
from strongroom.records.release import PURPOSE_RELEASE, KeyRequest, ReleaseAnswer, ReleaseRequest, Use
from strongroom.records.session import EVIDENCE_PATH, WorkerProof
from strongroom.records.verdict import Level
from strongroom.release.client import BrokerClient
from strongroom.release.grants import PAYLOAD_TYPE as GRANT_TYPE
from strongroom.release.problem import from_problem
from strongroom.sealed.open import Opener
from strongroom.sealed.registries import from_reference
from strongroom.worker.later import wrapped_key


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: its name for people, the code of the error that must stop it, and how it is done (returns the code seen)."""

    name: str
    expected: str
    carry_out: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Result:
    """How an attack ended."""

    name: str
    expected: str
    code: str
    named: tuple[str, ...] = ()
    """What was found to differ, for people."""

    @property
    def refused(self) -> bool:
        return self.code == self.expected


@dataclass
class Scene:
    """What the attacks work on."""

    stack: Stack
    policy: Policy
    policy_file: Path
    worker: WorkerProcess

    def client(self, url: str | None = None, **changed: object) -> Client:
        """A user like the demo's own."""
        trust = {
            "policy": self.policy,
            "anchor": self.stack.anchor,
            "broker": self.stack.broker.fingerprint,
            "accept_simulated": True,
            **changed,
        }
        return Client(url or self.worker.url, **trust)  # type: ignore[arg-type]

    def broker(self) -> BrokerClient:
        """A stranger's connection to the broker."""
        return BrokerClient(self.stack.broker.url, fingerprint=Digest(self.stack.broker.fingerprint))


def attacks(scene: Scene) -> list[Attack]:
    """All attacks but the last, which ends the worker (`revoke`)."""
    return [
        Attack("a byte of the sealed model is flipped", "sealed.broken", lambda: flipped_byte(scene)),
        Attack("a worker runs other code", "appraisal.refused", lambda: other_code(scene)),
        Attack("a worker asks for the key of another model", "appraisal.refused", lambda: other_model(scene)),
        Attack("the broker's grant is forged", "release.grant_invalid", lambda: forged_grant(scene)),
        Attack("recorded evidence is replayed to the broker", "appraisal.refused", lambda: replayed_evidence(scene)),
        Attack("a sealed request is replayed to the worker", "channel.replayed", lambda: replayed_request(scene)),
        Attack("the channel key is swapped on the way", "appraisal.refused", lambda: swapped_key(scene)),
        Attack("the answer is cut on the way", "channel.truncated", lambda: cut_stream(scene)),
        Attack("the policy demands a confidential TEE", "appraisal.refused", lambda: demands_confidential(scene)),
        Attack("the user did not say --accept-simulated", "appraisal.simulated", lambda: not_accepted(scene)),
    ]


def code_of(act: Callable[[], object]) -> str:
    """The code of the error that `act` ends in, or `none`."""
    try:
        act()
    except StrongroomError as error:
        return error.code
    except Exception as error:  # noqa: BLE001 (an SDK wraps what its transport raises)
        cause = error.__cause__
        return cause.code if isinstance(cause, StrongroomError) else type(error).__name__
    return "none"


# --- attacks on what lies on the host, each met by a worker of its own ---------------------------------------------------


def flipped_byte(scene: Scene) -> str:
    """Flip one bit in the middle of the largest blob that the registry keeps, under a manifest that still says the same."""
    copy = scene.stack.host / "registry-flipped"
    shutil.copytree(scene.stack.host / "registry", copy)
    blob = max((path for path in copy.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(blob.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    return _end_of(scene.stack.start_worker(MODEL_NAME, registry=scene.stack.registry_over(copy)))


def other_code(scene: Scene) -> str:
    """Launch changed code, which the fake hardware measures as it is; it claims to be the image that the policy names."""
    changed = digest_bytes(b"the same worker, with one line that sends the prompts home")
    return _end_of(scene.stack.start_worker(MODEL_NAME, image=changed))


def other_model(scene: Scene) -> str:
    """A second sealed model of the same owner, under the same key, which this policy does not admit."""
    folder = scene.stack.owner / "another"
    folder.mkdir()
    (folder / "another.gguf").write_bytes(b"another model")
    scene.stack.seal(folder, "another")
    return _end_of(scene.stack.start_worker("another"))


def forged_grant(scene: Scene) -> str:
    """Between worker and broker, sign the grants with a key of one's own."""
    stranger = generate_ed25519()

    def forge(path: str, body: bytes) -> bytes:
        if path != "/v1/releases" or not body.startswith(b"{"):
            return body
        answer = codec.decode(ReleaseAnswer, body)
        return codec.encode(replace(answer, grants=tuple(_forge(envelope, stranger) for envelope in answer.grants)))

    with_door = FrontDoor(scene.stack.broker.url, forge)
    try:
        return _end_of(scene.stack.start_worker(MODEL_NAME, broker=with_door.url))
    finally:
        with_door.close()


# --- attacks on the wire --------------------------------------------------------------------------------------------------


def replayed_evidence(scene: Scene) -> str:
    """Answer a new challenge of the broker's with evidence that the running worker gave to somebody else."""
    recorded = scene.client().verify().bundle
    broker = scene.broker()
    challenge = broker.challenge(PURPOSE_RELEASE)
    return code_of(lambda: broker.release(ReleaseRequest(challenge, recorded, scene_keys(scene))))


def replayed_request(scene: Scene) -> str:
    """Send the very same sealed request again, as any proxy could."""
    recorder = Recorder()
    client = scene.client(transport=recorder)
    client.ask("Say yes.", max_tokens=2)
    request = recorder.last
    again = httpx2.post(str(request.url), content=recorder.body, headers=dict(request.headers), timeout=30)
    return from_problem(again.content, again.status_code).code


def swapped_key(scene: Scene) -> str:
    """Put channel keys of one's own into the keyset that the worker shows."""
    public, public_v2 = generate_x25519().public_key().public_bytes_raw(), ReleaseKey.generate().public

    def swap(path: str, body: bytes) -> bytes:
        if path != EVIDENCE_PATH:
            return body
        proof = codec.decode(WorkerProof, body)
        evidence = proof.bundle.evidence
        keyset = replace(evidence.keyset, channel=public, channel_v2=public_v2)
        bundle = replace(proof.bundle, evidence=replace(evidence, keyset=keyset))
        return codec.encode(replace(proof, bundle=bundle))

    return _through(scene, swap, lambda client: client.verify())


def cut_stream(scene: Scene) -> str:
    """End the answer cleanly, at a frame's edge, before its last frames."""

    def cut(path: str, body: bytes) -> bytes:
        if path != v2.PATH:
            return body
        edges, at = [v2.NONCE_BYTES], v2.NONCE_BYTES
        while at + v2.PREFIX_BYTES <= len(body):
            at += v2.PREFIX_BYTES + int.from_bytes(body[at : at + 4])
            edges.append(at)
        return body[: edges[len(edges) // 2]]

    return _through(scene, cut, lambda client: client.ask("Count to ten.", max_tokens=16))


def demands_confidential(scene: Scene) -> str:
    """The same user with a policy that wants memory encrypted by silicon."""
    strict = replace(scene.policy, levels=(Level.CONFIDENTIAL,))
    scene.stack.user.joinpath("strict.toml").write_text(to_toml(strict))
    return code_of(lambda: scene.client(policy=strict).verify())


def not_accepted(scene: Scene) -> str:
    """The same user at the command line, without the flag."""
    outcome = run(
        "chat", scene.worker.url, "Hello", "--policy", scene.policy_file, "--anchor", scene.stack.anchor,
        "--broker-fingerprint", scene.stack.broker.fingerprint,
    )  # fmt: skip
    return outcome.error


def revoke(scene: Scene) -> str:
    """The owner revokes the lease: the worker drains, wipes and stops by itself, and its engine with it."""
    must("leases", "revoke", scene.client().verify().release.lease_id, *scene.stack.at_broker())
    return _end_of(scene.worker)


class Recorder(httpx2.BaseTransport):
    """The network, with a memory."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport()
        self.body = b""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.body = request.read()
        self.last = request
        return self._inner.handle_request(request)


def scene_keys(scene: Scene) -> tuple[KeyRequest, ...]:
    """What a worker asks for, made from what lies in the registry for all to read."""
    signer = public_from_pem(scene.stack.signer.read_bytes())
    opener = Opener(*from_reference(f"{scene.stack.registry}:{MODEL_NAME}"), signer_public=signer)
    return (KeyRequest(opener.digest, wrapped_key(opener), Use.OPEN),)


def _through(scene: Scene, transform: Transform, act: Callable[[Client], object]) -> str:
    door = FrontDoor(scene.worker.url, transform)
    try:
        return code_of(lambda: act(scene.client(door.url)))
    finally:
        door.close()


def _forge(envelope: Envelope, stranger: Ed25519PrivateKey) -> Envelope:
    return sign_envelope(GRANT_TYPE, envelope.payload, stranger)


def _end_of(worker: WorkerProcess) -> str:
    """The code with which a worker ended."""
    try:
        return worker.process.outcome().error or "none"
    finally:
        worker.process.stop()
        worker.chip.stop()


def code_of_attack(attack: Attack) -> str:
    """Carry out an attack; whatever stops it, its code comes back."""
    try:
        return attack.carry_out()
    except StrongroomError as error:
        return error.code
