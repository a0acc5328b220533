"""The launch specification: everything that decides what a machine runs, and so what its registers will hold.

Knows: its members, which of them exclude each other, and that nothing secret and nothing unmeasured stands in it. Does not
know: files (`launch.spec`), registers (`launch.measure`), or how a machine is started (`launch.qemu`, `launch.libvirt`).
Not here, on purpose: what belongs to one host (paths of sockets, addresses of devices), which must not change the digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from strongroom.records.digest import Digest, digest_bytes, digest_record, frame

Tee = Literal["tdx", "snp", "tpm", "nitro"]
HARMLESS = ("console", "disk", "network", "rng", "vsock")
"""Devices that may be there if somebody says why they can do no harm: what they carry must be sealed or checked above them."""
MEASURED = ("verity-disk",)
"""Devices whose content is fixed by what is measured: the command line names the root hash."""
IMAGE_TAG = "strongroom/launch-image/v1"
MAX_CPUS, MAX_MEMORY, MAX_DEVICES, MAX_TEXT = 4096, 1 << 26, 64, 4096
_ROOT_HASH = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{96})")
SHA384_ALONE, SHA384_DIGITS = ("acpi-", "rtmr"), 96
"""Names of what TDX measures, which knows no other hash; a TPM's registers have one of either length."""
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_VERSION = re.compile(r"\d{1,2}\.\d{1,2}")
_PHASE = re.compile(r"[a-z-]{1,32}")
_SECRET = re.compile(
    r"(?:pass(?:word|wd|phrase)|secret|token|api[_-]?key|private[_-]?key|credential)[\w.-]*\s*=|-----BEGIN|\bBearer\s",
    re.IGNORECASE,
)


def looks_secret(text: str) -> bool:
    """Whether a text that anybody may read looks as if a secret stood in it. A help for who writes it, not a proof."""
    return _SECRET.search(text) is not None


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file and its digest. `file` is a path, below the specification's own folder unless it is absolute."""

    file: str
    digest: Digest

    def __post_init__(self) -> None:
        _require(self.file and len(self.file) <= MAX_TEXT and "\0" not in self.file, "a file without a name")
        _require(not {",", "\n", "\r"} & set(self.file), "a file whose name QEMU would read as options")


@dataclass(frozen=True, slots=True)
class Firmware:
    """The firmware, and the variables that it starts with.

    `secure_boot` is `absent` where the firmware is built without it (then there is no such variable), else `off` or `on`.
    `observed` holds what only a boot of this firmware shows, and nobody can compute, by name, in lower-case hexadecimal.
    """

    code: PinnedFile
    variables: PinnedFile | None
    secure_boot: Literal["absent", "off", "on"]
    observed: Mapping[str, str]

    def __post_init__(self) -> None:
        for name, value in self.observed.items():
            _require(
                _WORD.fullmatch(name) and _HEX.fullmatch(value), "an observed value is a SHA-256 or SHA-384 digest"
            )
            short = name.startswith(SHA384_ALONE) and len(value) != SHA384_DIGITS
            _require(not short, f"{name} is a SHA-384 digest")


@dataclass(frozen=True, slots=True)
class Boot:
    """What is booted: a unified kernel image (`uki`), a kernel with its initrd (`linux`), or an enclave image (`eif`).

    `command_line` is a kernel's; a unified image and an enclave image carry their own. `phases` are those of systemd's
    boot phases that have passed when the machine is quoted.
    """

    kind: Literal["uki", "linux", "eif"]
    image: PinnedFile
    initrd: PinnedFile | None
    command_line: str | None
    phases: tuple[str, ...]

    def __post_init__(self) -> None:
        direct = self.kind == "linux"
        _require((self.command_line is not None) == direct, "a command line is given with a kernel, and only then")
        _require(direct or self.initrd is None, "an initrd is given with a kernel, and only then")
        _require(self.kind == "uki" or not self.phases, "only a unified kernel image has boot phases")
        _require(all(_PHASE.fullmatch(phase) for phase in self.phases), "a boot phase that is no word")
        line = self.command_line or ""
        _require(len(line) <= MAX_TEXT and _PRINTABLE.fullmatch(line), "a command line that is not printable ASCII")
        _require(not looks_secret(line), "a command line with a secret in it: anybody on the host reads it")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine: QEMU's version (`major.minor`; None for Nitro), CPU model and number, memory in MiB.

    `snp_features` are the SEV_FEATURES of a guest's vCPUs; None unless the machine is a SEV-SNP guest.
    """

    qemu: str | None
    cpu: str
    cpus: int
    memory: int
    snp_features: int | None

    def __post_init__(self) -> None:
        _require(self.qemu is None or _VERSION.fullmatch(self.qemu), "QEMU's version is written as major.minor")
        _require(_CPU.fullmatch(self.cpu), "a CPU model that is no word")
        _require(1 <= self.cpus <= MAX_CPUS and 1 <= self.memory <= MAX_MEMORY, "a machine without CPUs or memory")
        _require(self.snp_features is None or self.snp_features & 1, "SEV-SNP is not among the features")


@dataclass(frozen=True, slots=True)
class Device:
    """A device that the host gives. Its content is measured (`root_hash`), or somebody says why it can do no harm."""

    kind: str
    root_hash: str | None
    harmless: str | None

    def __post_init__(self) -> None:
        if self.kind in MEASURED:
            _require(self.harmless is None, "a device that is measured needs no excuse")
            _require(self.root_hash and _ROOT_HASH.fullmatch(self.root_hash), "a verity-disk names its root hash")
            return
        _require(self.kind in HARMLESS, f"a device that cannot be measured: {self.kind[:32]!r}")
        reason = self.harmless is not None and self.harmless.strip()
        _require(reason and self.root_hash is None, f"a {self.kind} is not measured: say why it is harmless")


@dataclass(frozen=True, slots=True)
class Gpus:
    """GPUs that are passed through. Nothing measures them at launch: each proves itself, and a policy says how many."""

    model: str
    count: int
    mode: Literal["cc", "ppcie"]

    def __post_init__(self) -> None:
        _require(_WORD.fullmatch(self.model) and 1 <= self.count <= MAX_DEVICES, "GPUs without a model or a number")


@dataclass(frozen=True, slots=True)
class Workload:
    """What the machine is for, as its statement will say: kind, artifacts, digest of the configuration."""

    kind: str
    artifacts: tuple[Digest, ...]
    configuration: Digest | None

    def __post_init__(self) -> None:
        _require(_WORD.fullmatch(self.kind), "a workload that is no word")


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One machine as it is to be launched. Its digest goes into MRCONFIGID or HOST_DATA."""

    TYPE: ClassVar[str] = "strongroom/launch/v1"
    name: str
    tee: Tee
    machine: Machine
    boot: Boot
    firmware: Firmware | None
    devices: tuple[Device, ...]
    gpus: Gpus | None
    workload: Workload | None

    def __post_init__(self) -> None:
        nitro = self.tee == "nitro"
        _require(_WORD.fullmatch(self.name), "a name that is no word")
        _require((self.boot.kind == "eif") == nitro, "an enclave image is booted by Nitro, and nothing else is")
        _require((self.firmware is None) == nitro, "firmware is needed, but for Nitro, which brings its own")
        _require((self.machine.qemu is None) == nitro, "QEMU's version is needed, but for Nitro")
        _require((self.machine.snp_features is not None) == (self.tee == "snp"), "snp_features are SEV-SNP's alone")
        _require(not nitro or not (self.devices or self.gpus), "an enclave has no devices")
        _require(len(self.devices) <= MAX_DEVICES, "too many devices")
        _require(self.tee != "tpm" or self.gpus is None, "GPUs in a machine whose memory is open protect nothing")

    @property
    def digest(self) -> Digest:
        return digest_record(self)

    @property
    def image(self) -> Digest:
        """What a statement and reference values call the image: the digest of its file, or of kernel, initrd and command line."""
        boot = self.boot
        if boot.kind != "linux":
            return boot.image.digest
        parts = (boot.image.digest, boot.initrd.digest if boot.initrd else "none", boot.command_line or "")
        return digest_bytes(frame(IMAGE_TAG, "\n".join(parts).encode("ascii")))

    @property
    def files(self) -> tuple[PinnedFile, ...]:
        """Every file that the launch reads, each once."""
        firmware = (self.firmware.code, self.firmware.variables) if self.firmware else ()
        found = (self.boot.image, self.boot.initrd, *firmware)
        return tuple(dict.fromkeys(file for file in found if file is not None))
