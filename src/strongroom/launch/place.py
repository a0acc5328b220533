"""Where a machine is started: what belongs to one host, and must not be part of a specification or its digest.

Knows: paths, sockets, addresses of devices. Does not know: QEMU's or libvirt's words for them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from strongroom.appraisal.statement import launch_register
from strongroom.errors import UsageError
from strongroom.launch.spec import place_of
from strongroom.records.digest import Digest
from strongroom.records.launch import LaunchSpec, PinnedFile

DISKS = ("disk", "verity-disk")
PCI_ADDRESS = re.compile(r"(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]", re.ASCII)
"""As `lspci` and sysfs write it, with or without the domain."""


@dataclass(frozen=True, slots=True)
class QuoteService:
    """Where a trust domain's host answers for quotes: the path of a socket, or else a vsock's CID and port."""

    path: str | None = None
    cid: int = 2
    port: int = 4050


@dataclass(frozen=True, slots=True)
class Place:
    """One host's part of a launch.

    `images` is the folder of the pinned files, unless there are `copies` of them by digest; `state` is the machine's own, with
    `vars.fd`, `tpm.sock` and `console.log`.
    `boot_disk` holds the unified kernel image in a FAT file system without a partition table (else PCR 5 would be another);
    `disks` belong to the specification's disks in their order, `gpus` are PCI addresses. `ports` are forwarded from the
    host's loopback address to the guest. `c_bit` and `reduced_bits` are the host CPU's, for SEV-SNP.
    """

    images: Path
    state: Path
    accelerator: Literal["kvm", "tcg"] = "kvm"
    boot_disk: Path | None = None
    disks: tuple[Path, ...] = ()
    gpus: tuple[str, ...] = ()
    quotes: QuoteService = field(default_factory=QuoteService)
    ports: Mapping[int, int] = field(default_factory=dict)
    vsock_cid: int | None = None
    c_bit: int = 51
    reduced_bits: int = 1
    copies: Mapping[Digest, Path] = field(default_factory=dict)

    def file(self, pinned: PinnedFile) -> str:
        return str(self.copies.get(pinned.digest) or place_of(pinned, self.images))

    @property
    def variables(self) -> Path:
        return self.state / "vars.fd"

    @property
    def tpm(self) -> Path:
        return self.state / "tpm.sock"

    @property
    def console(self) -> Path:
        return self.state / "console.log"


def check_place(spec: LaunchSpec, place: Place) -> None:
    """Whether host and specification fit together. Raises `UsageError`."""
    if spec.tee == "nitro":
        raise UsageError("an enclave is started by AWS's own tools", remedy="Use `nitro-cli run-enclave`.")
    if spec.tee != "tpm" and place.accelerator != "kvm":
        raise UsageError(f"{spec.tee} needs KVM: nothing emulates it")
    wanted = sum(device.kind in DISKS for device in spec.devices), spec.gpus.count if spec.gpus else 0
    if wanted != (len(place.disks), len(place.gpus)):
        raise UsageError(f"the specification has {wanted[0]} disks and {wanted[1]} GPUs, the host gives others")
    if boots_from_disk(spec) != (place.boot_disk is not None):
        raise UsageError("a unified kernel image is booted from a disk of its own, a kernel from none")
    for address in place.gpus:
        full_address(address)
    if any(device.kind == "vsock" for device in spec.devices) and place.vsock_cid is None:
        raise UsageError("the specification has a vsock, and the host gives no CID")


def full_address(address: str) -> str:
    """A PCI address with its domain, as sysfs names devices. Raises `UsageError` for what is none."""
    if not PCI_ADDRESS.fullmatch(address):
        raise UsageError(f"{address[:32]!r} is no PCI address", remedy="Give it as `lspci -D` does: 0000:45:00.0.")
    return address if address.count(":") == 2 else f"0000:{address}"  # noqa: PLR2004 (domain, bus, slot)


def boots_from_disk(spec: LaunchSpec) -> bool:
    """Whether the firmware finds the image on a disk; under SEV-SNP it is given by QEMU, which alone is measured."""
    return spec.boot.kind == "uki" and spec.tee != "snp"


def register_value(spec: LaunchSpec) -> str:
    """What MRCONFIGID (48 bytes) or HOST_DATA (32 bytes) is set to, in base64."""
    algorithm = {"tdx": "sha384", "snp": "sha256"}[spec.tee]
    return base64.b64encode(bytes.fromhex(launch_register(spec.digest, algorithm))).decode("ascii")
