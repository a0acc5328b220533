"""The main job, told in numbered steps: seal, release, open, verify, ask, receipt; the host's view; attacks.

Knows: the order of the story and what each step has to show. Does not know: how a screen looks (`screen`).
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from strongroom.demo import attacks, processes
from strongroom.demo.attacks import Result, Scene
from strongroom.demo.canaries import hunt
from strongroom.demo.model import fetch_model
from strongroom.demo.stack import KEY_ID, MODEL_NAME, POLICY_ID, Stack, WorkerProcess, stack
from strongroom.demo.telling import Screen, Teller, Told
from strongroom.errors import Refused
from strongroom.records.policy import Policy

PROMPT = "What is the capital of France? (Patient file {canary}.)"
SLICE = 64
STARTERS = 2
"""Attacks that start a worker of their own run two at a time: the machine may have two cores."""


class Story(Teller):
    """One telling. `screen` sees it live; `told` is what remains."""

    def __init__(self, made: Stack, screen: Screen) -> None:
        super().__init__(screen)
        self._stack = made
        self._kept = "a folder"

    def tell(self) -> Told:
        """All of it."""
        self.owner_prepares()
        policy, policy_file = self.owner_seals()
        worker = self.worker_starts()
        receipt = self.user_asks(worker, policy_file)
        self.anybody_checks(receipt, policy_file)
        self.attackers_try(Scene(self._stack, policy, policy_file, worker))
        self.host_looks()
        self._screen.end(self.told)
        return self.told

    def owner_prepares(self) -> None:
        """Keys, and a broker outside the TEE."""
        made = self._stack
        with self._step("The owner makes keys and starts a broker") as fact:
            made.make_installation()
            self._kept = made.use_registry()
            processes.must("keys", "new", made.identity)
            broker = made.start_broker()
            fact(f"broker {broker.fingerprint[:23]}…, its log and keys in SQLite")
            fact("simulated TEE: fake chips under a root made for this demo alone")

    def owner_seals(self) -> tuple[Policy, Path]:
        """The model sealed and signed; the policy written, signed and published."""
        made = self._stack
        with self._step("The owner seals a real model and signs a policy") as fact:
            folder = made.owner / "model"
            folder.mkdir()
            model = (
                folder
                / f"{self._plant('the name of the model file', b'weights-' + secrets.token_hex(8).encode())}.gguf"
            )
            shutil.copyfile(fetch_model(), model)
            with model.open("rb") as file:
                file.seek(model.stat().st_size // 3)
                self._plant("the weights", file.read(SLICE))
            note = self._plant("a document beside the weights", b"note-" + secrets.token_hex(12).encode())
            (folder / "NOTES.txt").write_text(f"training notes {note}\n")
            processes.must("keys", "create", KEY_ID, "--policy-id", POLICY_ID, *made.at_broker())
            artifact = made.seal(folder, MODEL_NAME)
            fact(f"{model.stat().st_size / 1e6:.0f} MB → {self._kept}, artifact {artifact[:19]}…, names sealed as well")
            policy = made.policy(artifact, made.configuration(MODEL_NAME))
            policy_file = made.publish(policy)
            fact(
                f"policy {policy.id} v{policy.version}: this image, this model, this configuration, lease {policy.lease_seconds} s"
            )
        return policy, policy_file

    def worker_starts(self) -> WorkerProcess:
        """Prove, appraise, release, open."""
        made = self._stack
        with self._step("A worker proves itself and gets the key") as fact:
            worker = made.start_worker(MODEL_NAME)
            for state in ("prepared", "proved", "opened", "ready"):
                line = worker.process.line(state=state)
                fact(f"{state}: {line['detail']}")
            made.wait_ready(worker)
        return worker

    def user_asks(self, worker: WorkerProcess, policy_file: Path) -> Path:
        """A user verifies with a nonce of their own, then chats through the official openai client."""
        with self._step("A user verifies the worker, then asks through the openai client") as fact:
            prompt = PROMPT.format(canary=self._plant("the prompt", b"patient-" + secrets.token_hex(12).encode()))
            user = self._plant("the user's name", b"user-" + secrets.token_hex(12).encode())
            self._plant("the form of an answer", b'"object":"chat.completion.chunk"')
            answer, receipt = self._stack.ask(worker.url, policy_file, prompt, user=user)
            if "error" in answer:
                raise Refused(f"the user was refused: {answer['error']['message']}", detail=answer["error"]["code"])
            self.told.answer = str(answer["answer"])
            fact(f"verified: {answer['level']}, {answer['checks']} checks, {answer['verify_seconds']:.2f} s")
            fact(
                f"“{self.told.answer.strip()}”  ({answer['pieces']} pieces, first after {answer['first_token_seconds']:.2f} s)"
            )
        return receipt

    def anybody_checks(self, receipt: Path, policy_file: Path) -> None:
        """Receipt and log, offline."""
        made = self._stack
        with self._step("Anybody checks the receipt and the log, offline") as fact:
            broker = ["--broker-fingerprint", made.broker.fingerprint]
            trust: list[str | Path] = ["--policy", policy_file, "--anchor", made.anchor, "--accept-simulated", *broker]
            checked = processes.must("receipt", "verify", receipt, *trust)
            logged = processes.must("log", "verify", receipt, *broker)
            usage = checked["receipt"]["usage"]
            fact(f"receipt {checked['receipt']['sequence']}: {checked['receipt']['outcome']}, {usage}")
            fact(f"{logged['leaf']['event']} is entry {logged['index']} of {logged['size']} in {logged['origin']}")

    def attackers_try(self, scene: Scene) -> None:
        """Each attack, and at last the owner's own: revoking the lease."""
        with self._step("Attackers try") as fact:
            planned = attacks.attacks(scene)
            with ThreadPoolExecutor(STARTERS) as pool:
                for result in pool.map(lambda a: Result(a.name, a.expected, attacks.code_of_attack(a)), planned):
                    self._record(result)
            code = attacks.revoke(scene)
            self._record(Result("the owner revokes the lease; the worker wipes and stops", "release.lease_ended", code))
            fact(
                f"{sum(a.refused for a in self.told.attacks)} of {len(self.told.attacks)} refused, each with its own error"
            )

    def host_looks(self) -> None:
        """Search everything the operator can see; and show that the search would find something."""
        made = self._stack
        with self._step("The host searches all it has for what was planted") as fact:
            control, _ = hunt(self._canaries[:3], [made.owner])
            if len({sighting.canary for sighting in control}) != len(self._canaries[:3]):
                raise Refused("the search does not even find what the owner has in the clear")
            self.told.found, searched = hunt(self._canaries, [made.host])
            fact(
                f"{searched / 1e6:.0f} MB of disk, wire and logs searched for {self.told.planted} canaries: {len(self.told.found)} found"
            )
            for sighting in self.told.found:
                fact(f"FOUND {sighting.canary} in {sighting.file}")
            if self.told.found:
                raise Refused("a canary was seen outside the worker")


def tell(screen: Screen) -> Told:
    """The whole story in a folder of its own, removed at the end."""
    fetch_model()
    with tempfile.TemporaryDirectory(prefix="strongroom-demo-") as folder, stack(Path(folder)) as made:
        return Story(made, screen).tell()
