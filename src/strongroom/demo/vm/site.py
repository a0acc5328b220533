"""Everything on this machine that the story needs: an owner, a broker that enrols TPMs, the image, its disk, and the machines.

    owner/     keys, policy and the plaintext model: not searched for canaries
    host/      broker, registry, disks, folders of the machines, wire, logs: everything that the operator has, all of it searched
    user/      receipts
    vendor/    who certifies the software TPMs

Knows: which part needs what of which other. Does not know: the story (`story`), the attacks (`attacks`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from strongroom.appraisal.policies import template, to_toml
from strongroom.crypto.signatures import generate_p256
from strongroom.demo import processes
from strongroom.demo import registry as registries
from strongroom.demo.processes import Process
from strongroom.demo.vm.vendor import Vendor
from strongroom.demo.wire import Relay
from strongroom.errors import LaunchFailed, Unavailable
from strongroom.launch.image.build import Base, finish
from strongroom.launch.life import Launcher
from strongroom.launch.life.attest import WorkerAttest
from strongroom.launch.life.drivers import driver
from strongroom.launch.measure import Expected, measure
from strongroom.launch.measure.reference import reference_of
from strongroom.launch.observe import FOLDERS, TRAVERSABLE, observe
from strongroom.launch.place import Place
from strongroom.launch.spec import read_images
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.launch import Boot, Device, Firmware, LaunchSpec, Machine, PinnedFile
from strongroom.records.launched import State, WipeDocument
from strongroom.records.policy import Policy, Requirement

MODEL_NAME, KEY_ID, POLICY_ID = "smollm2", "demo-model", "demo-vm"
FIRMWARE = (("OVMF_CODE.fd", "OVMF_VARS.fd"), ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"))
OVMF = Path("/usr/share/OVMF")
PRIVATE = 0o700
PROGRAMS = ("qemu-system-x86_64", "mformat", "mcopy", "swtpm", "swtpm_setup", "busybox", registries.PROGRAM)
MEMORY_MIB = 2560
CPUS = 2
GATEWAY, GUEST, PORT = "10.0.2.2", "10.0.2.15", 8443
"""QEMU's user network: the host's loopback, and the guest (QEMU "User mode networking")."""
DISK, SHARE = "/dev/vdb", "/srv/disk"
SPARE_MIB = 24
SECONDS = 480.0
NO_LISTS = "the demo's maker of TPMs publishes no lists"
DEVICES = (
    Device("console", None, "it shows the steps of the start and the codes of errors"),
    Device("disk", None, "what lies there is sealed and signed"),
    Device("network", None, "what passes it is sealed"),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A machine as it was specified, what its registers will hold, and its folder's launcher."""

    spec: LaunchSpec
    expected: Expected
    launcher: Launcher


class Site:
    """All of it, under `root`; machines through the driver of that name. Close it to end every machine and every process."""

    def __init__(self, root: Path, driver_name: str) -> None:
        self.root, self.driver_name = root, driver_name
        self.owner, self.host, self.user = root / "owner", root / "host", root / "user"
        for folder in (self.owner, self.host / "wire", self.host / "logs", self.host / "images", self.user):
            folder.mkdir(parents=True)
        for folder in (self.owner, self.user):
            folder.chmod(PRIVATE)
        for folder in (root, self.host):  # libvirt's account looks for its machines here
            folder.chmod(TRAVERSABLE)
        self.identity, self.signer = self.owner / "owner.pem", self.owner / "owner.pem.pub"
        self.enroller = self.owner / "enroller.pem.pub"
        self.vendor = Vendor(root / "vendor")
        self.vendor.make(self.root / "first-chip")
        self.registry = self.host / "registry"
        self.observed: Mapping[str, str] = {}
        self._cleanup = contextlib.ExitStack()
        self._numbers, self._names = itertools.count(1), itertools.count(1)
        self._key = generate_p256()

    def close(self) -> None:
        """End everything, newest first."""
        self._cleanup.close()

    def down(self, kept: Kept) -> WipeDocument:
        """Take a machine down; what was written about it elsewhere is kept for the search, as an operator could."""
        launcher = kept.launcher
        for path in launcher.driver.traces(kept.spec, launcher.place):
            shutil.copyfile(path, self.host / "logs" / Path(path).name)
        return launcher.down()

    # --- the owner ---------------------------------------------------------------------------------------------------

    def start_broker(self) -> None:
        """A broker outside, which enrols the chips of our vendor; the machines reach it through a relay that records."""
        processes.must("keys", "new", self.identity)
        processes.must("keys", "new", self.owner / "enroller.pem")
        words = processes.command(
            "broker", "serve", "--state", self.host / "broker", "--owner", self.signer, "--enrol-tpms", self.owner / "enroller.pem",
            "--ek-anchor", self.vendor.root, "--ek-any-revocation", NO_LISTS, "--profile", "development",
            "--listen", "127.0.0.1:0",
        )  # fmt: skip
        process = self._start("broker", words)
        ready = process.line(state="ready")
        self.wire = self.host / "wire" / "machines-broker"
        relay = Relay(ready["url"], self.wire)
        self._cleanup.callback(relay.close)
        self.broker_url, self.fingerprint = str(ready["url"]), str(ready["fingerprint"])
        self.broker_port = int(relay.url.rpartition(":")[2])

    def at_broker(self) -> list[str]:
        """The options by which the owner speaks to the broker."""
        return ["--broker", self.broker_url, "--broker-fingerprint", self.fingerprint, "--identity", str(self.identity)]

    def seal(self, source: Path, *, key: str = KEY_ID, kind: str = "model", name: str = MODEL_NAME) -> str:
        """Seal `source` into the registry; the artifact's digest."""
        words = ("--key", key, *self.at_broker(), "--kind", kind)
        return str(processes.must("seal", source, f"dir:{self.registry}:{name}", *words)["digest"])

    # --- the image and its machine -----------------------------------------------------------------------------------

    def words(self) -> list[str]:
        """What a worker's machine runs: nothing of it is secret, all of it is measured."""
        return [
            "strongroom", "serve", f"dir:{SHARE}/registry:{MODEL_NAME}", "--broker", f"http://{GATEWAY}:{self.broker_port}",
            "--broker-fingerprint", self.fingerprint, "--signer", "/etc/strongroom/owner.pub", "--image", "{image}",
            "--enrol", "--collateral", "/etc/strongroom/above-the-ek.pem", "--profile", "development", "--name", MODEL_NAME,
            "--context", "512", "--threads", str(CPUS), "--listen", f"{GUEST}:{PORT}",
        ]  # fmt: skip

    def configuration(
        self,
        words: list[str] | None = None,
        *,
        reaches: tuple[int, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> dict[str, bytes]:
        """The files of a machine's configuration, for a worker that runs `words`, and may call further ports of the host."""
        command = json.dumps([*(words or self.words()), "--json"])
        places = json.dumps([f"{GATEWAY}:{port}" for port in (self.broker_port, *reaches)])
        variables = "".join(f'{name} = "{value}"\n' for name, value in (environment or {}).items())
        text = (
            f"version = 1\ncommand = {command}\n[environment]\n{variables}"
            f'[network]\naddress = "{GUEST}/24"\ngateway = "{GATEWAY}"\nserves = [{PORT}]\nreaches = {places}\n'
            f'[[disks]]\ndevice = "{DISK}"\nfilesystem = "vfat"\nplace = "{SHARE}"\n'
            f'[told]\nimage = "{SHARE}/image"\n'
        )
        return {
            "machine.toml": text.encode(),
            "owner.pub": self.signer.read_bytes(),
            "above-the-ek.pem": self.vendor.above().encode(),
        }

    def image(self, base: Base, configuration: Mapping[str, bytes]) -> Path:
        """The image of a configuration, as a file."""
        return self.keep(finish(base, configuration))

    def keep(self, image: bytes) -> Path:
        """An image as a file, named by its digest."""
        path = self.host / "images" / f"{digest_bytes(image).removeprefix('sha256:')[:16]}.efi"
        path.write_bytes(image)
        return path

    def spec(self, image: Path, *, name: str = "worker") -> LaunchSpec:
        """The launch specification of a machine with this image; no other machine of this host has its name."""
        code, variables = firmware()
        return LaunchSpec(
            name=f"{self.root.name}-{name}-{next(self._names)}",
            tee="tpm",
            machine=Machine(qemu_version(), "max", CPUS, MEMORY_MIB, None),
            boot=Boot("uki", _pinned(image), None, None, ()),
            firmware=Firmware(_pinned(code), _pinned(variables), "off", dict(self.observed)),
            devices=DEVICES,
            gpus=None,
            workload=None,
        )

    def observe(self, image: Path, stub: bytes) -> None:
        """Boot the firmware once with a system that has no secret and does nothing but show PCR 0, which nobody can compute."""
        starter = driver(self.driver_name, tpm_config=self.vendor.config)
        self.observed = observe(self.spec(image), self.root, starter, stub=stub, accelerator="tcg", seconds=SECONDS)

    def disk(self, image: Digest) -> Path:
        """A disk with the sealed artifacts and the digest of the image, which nobody believes without evidence."""
        told = self.host / "told"
        told.mkdir(exist_ok=True)
        (told / "image").write_text(f"{image}\n")
        path = self.host / f"disk-{next(self._numbers)}.img"
        size = sum(file.stat().st_size for file in self.registry.rglob("*") if file.is_file()) + (SPARE_MIB << 20)
        with path.open("wb") as file:
            file.truncate(size + -size % (1 << 20))
        _run("mformat", "-i", path, "-F", "::")
        _run("mcopy", "-i", path, "-s", "-Q", self.registry, told / "image", "::/")
        return path

    def registry_process(self) -> str:
        """A real registry on this host, for what leaves a machine: `PORT`, as machines reach it at the gateway."""
        address = registries.address(self._start("registry", registries.command(self.host / "outputs")))
        return address.rpartition(":")[2]

    def machine(self, spec: LaunchSpec, disk: Path, *, vendor: Vendor | None = None) -> Kept:
        """A machine that is not started yet; its chip will be the vendor's."""
        folder, maker = self.host / f"machine-{next(self._numbers)}", vendor or self.vendor
        expected = measure(spec, read_images(spec, self.root))
        ports = {_free_port(): PORT}
        place = Place(images=self.root, state=folder, accelerator="tcg", disks=(disk,), ports=ports)
        launcher = Launcher(
            spec,
            place,
            driver(self.driver_name, tpm_config=maker.config),
            self._key,
            prove_seconds=SECONDS,
            drain_seconds=0,
        )
        self._cleanup.callback(_end, launcher)
        return Kept(spec, expected, launcher)

    def url(self, kept: Kept) -> str:
        """Where a machine's worker answers, from the host."""
        (port,) = kept.launcher.place.ports
        return f"http://127.0.0.1:{port}"

    # --- policy and user ---------------------------------------------------------------------------------------------

    def configured(self, image: Digest, words: list[str] | None = None, here: Mapping[str, str] | None = None) -> str:
        """The digest of what the worker will be told, computed by the owner beforehand; `here` says where files of the machine lie here."""
        here = {
            "{image}": image,
            "/etc/strongroom/owner.pub": str(self.signer),
            f"dir:{SHARE}/registry:{MODEL_NAME}": f"dir:{self.registry}:{MODEL_NAME}",
            **(here or {}),
        }
        asked = [here.get(word, word) for word in (words or self.words())[1:]]
        return str(processes.must(*asked, "--show-configuration")["configuration"])

    def policy(
        self, artifact: str, kept: Kept, configuration: str, *, name: str = POLICY_ID, workload: str = "inference"
    ) -> Policy:
        """The owner's policy: these registers, computed and never measured; this artifact; this configuration."""
        policy = template(
            name,
            workload=workload,
            references=[reference_of(kept.spec, kept.expected)],
            artifacts=[artifact],
            simulated=True,
            kind="tpm",
        )
        tpm = policy.tpm
        if tpm is None:
            raise AssertionError
        return replace(
            policy,
            configuration=Requirement(one_of=(configuration,)),
            launch_spec=Requirement(one_of=("none",)),
            lease_seconds=120,
            tpm=replace(
                tpm,
                source=Requirement(one_of=("enrolment",)),
                secure_boot=Requirement(one_of=("0",)),
                pcrs={"pcr11": Requirement(one_of=(kept.expected.registers["pcr11"],))},
            ),
        )

    def publish(self, policy: Policy) -> Path:
        """Write, sign and publish a policy. Returns the TOML file."""
        toml, signed = self.owner / f"{policy.id}.toml", self.owner / f"{policy.id}.json"
        toml.write_text(to_toml(policy))
        processes.must("policy", "sign", toml, "--identity", self.identity, "-o", signed)
        processes.must("policy", "put", signed, *self.at_broker())
        return toml

    def trust(self, policy: Policy | Path) -> dict[str, Any]:
        """What a user holds."""
        return {
            "policy": policy,
            "anchor": self.vendor.root,
            "enrollers": [self.enroller],
            "broker": self.fingerprint,
            "accept_simulated": True,
        }

    def revoke(self, lease_id: str) -> tuple[str, str]:
        """End a machine's lease, as the owner; see `launch.life.wipe.Revoke`."""
        done = processes.run("leases", "revoke", lease_id, *self.at_broker())
        return ("revoked", "") if done.code == 0 else ("unreachable", f"{done.error}: it ends by its term")

    def attest(self, kept: Kept, policy: Policy) -> WorkerAttest:
        """How the launcher asks a machine, with what a user holds."""
        return WorkerAttest(self.url(kept), **self.trust(policy))

    def _start(self, name: str, words: list[str]) -> Process:
        place = self.host / "processes" / name
        place.mkdir(parents=True)
        process = Process(words, self.host / "logs" / f"{name}.log", place)
        self._cleanup.callback(process.stop)
        return process


@contextlib.contextmanager
def site(driver_name: str = "qemu") -> Iterator[Site]:
    """A site in a folder of its own, whose machines and processes are ended, and which is removed, however the story ends."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or sys.platform != "linux":
        raise Unavailable(
            f"missing programs: {', '.join(missing)}",
            remedy="apt-get install qemu-system-x86 ovmf swtpm swtpm-tools mtools busybox-static docker-registry",
        )
    with tempfile.TemporaryDirectory(prefix="sr-vm-", dir=FOLDERS) as folder:
        made = Site(Path(folder), driver_name)
        try:
            yield made
        finally:
            made.close()


def _end(launcher: Launcher) -> None:
    with contextlib.suppress(Exception):  # whatever is left of it, the others are ended too
        if launcher.status().state not in {None, State.WIPED}:
            launcher.down()


def firmware() -> tuple[Path, Path]:
    """The firmware's code and its variables. Raises `Unavailable`."""
    for names in FIRMWARE:
        code, variables = (OVMF / name for name in names)
        if code.exists() and variables.exists():
            return code, variables
    raise Unavailable("there is no OVMF", remedy="apt-get install ovmf")


def qemu_version() -> str:
    """`major.minor` of the QEMU that is installed."""
    words = _run("qemu-system-x86_64", "--version").split()
    return ".".join(words[words.index("version") + 1].split(".")[:2])


def _free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pinned(path: Path) -> PinnedFile:
    return PinnedFile(str(path), digest_bytes(path.read_bytes()))


def _run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, check=False, timeout=SECONDS)
    if done.returncode:
        raise LaunchFailed(f"{words[0]} failed: {(done.stdout + done.stderr).decode('utf-8', 'replace')[-300:]}")
    return done.stdout.decode("utf-8", "replace")
