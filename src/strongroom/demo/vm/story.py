"""The main job in a machine that boots for real, told in numbered steps; then other machines, each refused.

Knows: the order of the story and what each step has to show. Does not know: how a screen looks (`demo.screen`).
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from strongroom.demo import processes
from strongroom.demo.attacks import Result
from strongroom.demo.canaries import hunt
from strongroom.demo.model import fetch_model
from strongroom.demo.telling import Screen, Teller, Told
from strongroom.demo.vm import attacks, errand, patching
from strongroom.demo.vm.site import KEY_ID, SECONDS, Kept, Site, site
from strongroom.demo.vm.vendor import Vendor
from strongroom.errors import Refused
from strongroom.launch.image import build, tcb
from strongroom.launch.image.lock import Lock, make_lock
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.launched import Entry, State, WipeReceipt
from strongroom.records.policy import Policy

PROMPT = "What is the capital of France? (Patient file {canary}.)"
MAX_TOKENS = 12
SLICE = 64
AT_ONCE = 2
"""Machines that are started side by side."""


class Facts:
    """A launch's states as facts of a step."""

    def __init__(self, fact: Callable[[str], None]) -> None:
        self._fact = fact

    def begin(self, state: State) -> None:
        """See `launcher.Report`."""

    def done(self, entry: Entry, seconds: float) -> None:
        """See `launcher.Report`."""
        self._fact(f"{entry.state.value:<10} {seconds:6.1f} s  {entry.evidence[:19]}")


class Story(Teller):
    """One telling, with the files that images are made of in `parts`."""

    def __init__(self, made: Site, screen: Screen, parts: Path) -> None:
        super().__init__(screen)
        self._site, self._parts = made, parts

    def tell(self) -> Told:
        """All of it."""
        artifact = self.owner_prepares()
        lock, base, image, good = self.builder_builds()
        policy, policy_file = self.owner_admits(artifact, good)
        with ThreadPoolExecutor(1) as beside:
            patched = beside.submit(build.assemble, *patching.patched(lock, self._parts, self._site.root / "patched"))
            self.machine_boots(good, policy)
            receipt = self.user_asks(good, policy_file)
            self.anybody_checks(receipt, policy_file)
            self.script_runs(base)
            self.attackers_try(base, patched.result(), image, good, policy)
        self.machine_goes(good)
        self.host_looks()
        self._screen.end(self.told)
        return self.told

    def owner_prepares(self) -> str:
        """Keys, a broker that enrols, a sealed model."""
        made = self._site
        with self._step("The owner makes keys, starts a broker that enrols TPMs, and seals a real model") as fact:
            made.start_broker()
            fact(f"broker {made.fingerprint[:23]}…; it believes the demo's own maker of software TPMs")
            folder = made.owner / "model"
            folder.mkdir()
            name = self._plant("the name of the model file", b"weights-" + secrets.token_hex(8).encode())
            model = folder / f"{name}.gguf"
            shutil.copyfile(fetch_model(), model)
            with model.open("rb") as file:
                file.seek(model.stat().st_size // 3)
                self._plant("the weights", file.read(SLICE))
            processes.must("keys", "create", KEY_ID, "--policy-id", "demo-vm", *made.at_broker())
            artifact = made.seal(folder)
            fact(f"{model.stat().st_size / 1e6:.0f} MB sealed as {artifact[:19]}…")
        return artifact

    def builder_builds(self) -> tuple[Lock, build.Base, bytes, Kept]:
        """The image, and every register of its machine, before anything boots."""
        made = self._site
        with self._step("The worker image is built, and what its machine's registers will hold is computed") as fact:
            lock = make_lock(self._parts)
            base = build.assemble(lock, self._parts)
            image = build.finish(base, made.configuration())
            found = tcb.contents(image).total
            fact(
                f"{len(lock.deb)} Debian packages, {len(lock.wheel)} wheels, no shell: {len(image) / 1e6:.0f} MB, "
                f"{digest_bytes(image)[:19]}…"
            )
            fact(
                f"trusted computing base: {found.python_lines} lines of Python, {found.native_bytes / 1e6:.0f} MB native, "
                f"{found.kernel_bytes / 1e6:.0f} MB kernel"
            )
            path = made.keep(image)
            made.observe(path, base.boot.stub)
            fact(f"PCR 0 of this firmware, seen once in a machine without secrets: {made.observed['pcr0'][:16]}…")
            began = time.monotonic()
            good = made.machine(made.spec(path), made.disk(digest_bytes(image)))
            fact(f"{len(good.expected.registers)} registers computed in {time.monotonic() - began:.2f} s")
        return lock, base, image, good

    def owner_admits(self, artifact: str, good: Kept) -> tuple[Policy, Path]:
        """A policy over computed registers."""
        made = self._site
        with self._step(
            "The owner admits those registers, this model and this configuration, and nothing else"
        ) as fact:
            policy = made.policy(artifact, good, made.configured(good.spec.image))
            path = made.publish(policy)
            fact(
                f"policy {policy.id}: {len(policy.references[0].registers)} registers pinned, lease {policy.lease_seconds} s"
            )
        return policy, path

    def machine_boots(self, good: Kept, policy: Policy) -> None:
        """Preflight, boot, attest, ready."""
        made = self._site
        with self._step("A machine boots, has its TPM enrolled, proves itself and gets the key") as fact:
            good.launcher.report = Facts(fact)
            good.launcher.attest = made.attest(good, policy)
            good.launcher.up(State.READY)
            fact("ready by the broker's verdict; simulated, since this machine's operator holds the software TPM")

    def user_asks(self, good: Kept, policy_file: Path) -> Path:
        """A user verifies with a nonce of their own, then asks through the official openai client."""
        made = self._site
        with self._step("A user verifies the machine, then asks through the openai client") as fact:
            prompt = PROMPT.format(canary=self._plant("the prompt", b"patient-" + secrets.token_hex(12).encode()))
            user = self._plant("the user's name", b"user-" + secrets.token_hex(12).encode())
            answer, receipt = self._ask(made.url(good), policy_file, prompt, user)
            if "error" in answer:
                raise Refused(f"the user was refused: {answer['error']['message']}", detail=answer["error"]["code"])
            self.told.answer = str(answer["answer"])
            fact(f"verified: {answer['level']}, {answer['checks']} checks, {answer['verify_seconds']:.2f} s")
            fact(
                f"“{self.told.answer.strip()}”  ({answer['pieces']} pieces, first after {answer['first_token_seconds']:.1f} s)"
            )
        return receipt

    def _ask(self, url: str, policy: Path, prompt: str, user: str) -> tuple[dict[str, Any], Path]:
        made = self._site
        receipt = made.user / "receipt.json"
        told = {
            "url": url, "policy": str(policy), "anchor": str(made.vendor.root), "enroller": str(made.enroller),
            "broker": made.fingerprint, "prompt": prompt, "user": user, "max_tokens": str(MAX_TOKENS), "receipt": str(receipt),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "strongroom.demo.user"],
            input=json.dumps(told).encode(),
            capture_output=True,
            check=False,
            timeout=SECONDS,
        )
        document = processes.last_document(done.stdout)
        if done.returncode != 0 and "error" not in document:
            raise Refused("the demo's user failed", remedy=done.stderr.decode(errors="replace")[-2000:])
        return document, receipt

    def anybody_checks(self, receipt: Path, policy_file: Path) -> None:
        """Receipt and log, offline."""
        made = self._site
        with self._step("Anybody checks the receipt and the log, offline") as fact:
            broker = ["--broker-fingerprint", made.fingerprint]
            trust: list[str | Path] = [
                "--policy",
                policy_file,
                "--anchor",
                made.vendor.root,
                "--enroller",
                made.enroller,
                "--accept-simulated",
            ]
            checked = processes.must("receipt", "verify", receipt, *trust, *broker)
            logged = processes.must("log", "verify", receipt, *broker)
            fact(
                f"receipt {checked['receipt']['sequence']}: {checked['receipt']['outcome']}, {checked['receipt']['usage']}"
            )
            fact(f"{logged['leaf']['event']} is entry {logged['index']} of {logged['size']} in {logged['origin']}")

    def script_runs(self, base: build.Base) -> None:
        """A job of the owner's own, in a machine of its own."""
        with self._step("A script of the owner's runs on 100 MiB of sealed data, in a machine for it alone") as fact:
            done = errand.run_errand(self._site, base)
            fact(f"machine from start to off: {done.seconds:.1f} s")
            fact(
                f"outputs sealed to the owner, opened: {done.summary['bytes']} bytes, sha256 {done.summary['sha256'][:16]}…"
            )
            fact(f"receipt and outputs checked offline: {done.checked['level']}, {done.checked['usage']}")

    def attackers_try(self, base: build.Base, patched: build.Base, image: bytes, good: Kept, policy: Policy) -> None:
        """Other machines under the same name."""
        made = self._site
        wider = made.configuration()
        wider["machine.toml"] = wider["machine.toml"].replace(b"reaches = [", b'reaches = ["203.0.113.7:443", ')
        others = {
            "another command line for the kernel": attacks.other_command_line(image, base.boot.stub),
            "another initrd: a firewall with one hole more": build.finish(base, wider),
            "a patched wheel: one line of the worker is another": build.finish(patched, made.configuration()),
        }
        with self._step("Attackers try") as fact, ThreadPoolExecutor(AT_ONCE) as pool:
            running = [
                (name, data, pool.submit(attacks.refused, made, good, made.keep(data), policy))
                for name, data in others.items()
            ]
            same = Path(good.spec.boot.image.file)
            swapped = pool.submit(attacks.refused, made, good, same, policy, vendor=self._stranger())
            self._record(Result("a recorded quote is replayed", "appraisal.refused", attacks.replayed(made, good)))
            for name, data, attack in running:
                found = attack.result()
                named = (*found.differs, *attacks.files_that_differ(image, data))
                code = found.code if found.differs else "nothing named"
                self._record(Result(name, "appraisal.refused", code, named))
                for text in named:
                    fact(f"  {text}")
            code = swapped.result().code
            self._record(Result("another vTPM, of a maker nobody knows", "signature.invalid", code))

    def _stranger(self) -> Vendor:
        return Vendor(self._site.root / "stranger")

    def machine_goes(self, good: Kept) -> None:
        """Drain, wipe, receipt."""
        made = self._site
        with self._step(
            "The machine proves itself once more and is taken down: keys first, then it, then what it leaves"
        ) as fact:
            good.launcher.report, good.launcher.revoke = Facts(fact), made.revoke
            good.launcher.reattest()
            document = made.down(good)
            path = made.user / "wipe.json"
            path.write_bytes(codec.encode(document))
            steps = codec.decode(WipeReceipt, document.receipt.payload).steps
            fact(f"wipe receipt: {', '.join(dict.fromkeys(step.what for step in steps))}")

    def host_looks(self) -> None:
        """Search everything the operator can see; and show that the search would find something."""
        made = self._site
        with self._step("The host searches all it has for what was planted") as fact:
            control, _ = hunt(self._canaries[:2], [made.owner])
            if len({sighting.canary for sighting in control}) != len(self._canaries[:2]):
                raise Refused("the search does not even find what the owner has in the clear")
            self.told.found, searched = hunt(self._canaries, [made.host])
            fact(f"{searched / 1e6:.0f} MB searched for {self.told.planted} canaries: {len(self.told.found)} found")
            for sighting in self.told.found:
                fact(f"FOUND {sighting.canary} in {sighting.file}")
            if self.told.found:
                raise Refused("a canary was seen outside the machine")


def tell(screen: Screen, parts: Path, *, driver: str = "qemu") -> Told:
    """The whole story, its machines through the driver of that name."""
    fetch_model()
    with site(driver) as made:
        return Story(made, screen, parts).tell()
