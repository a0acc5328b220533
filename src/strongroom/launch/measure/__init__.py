"""What every register of a machine will hold, computed from its launch specification and its files alone.

Knows: which kind is computed where, and what must fit together before anything is computed. Does not know: files on disk
(`launch.spec`), evidence (`appraisal`). Pure: the same specification and bytes give the same registers, without clock,
network or hardware.
"""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.errors import MalformedImage, NotMeasurable
from strongroom.launch.measure import eif, snp, tdx, tpm
from strongroom.launch.measure.expected import Expected, ExpectedInput
from strongroom.launch.measure.firmware import read_variables
from strongroom.launch.measure.uefi import Files
from strongroom.launch.measure.uki import parse_uki
from strongroom.records.digest import Digest
from strongroom.records.launch import MEASURED, Firmware, LaunchSpec, looks_secret

__all__ = ["Expected", "ExpectedInput", "measure"]

ROOT_HASH_OPTIONS = ("roothash", "usrhash", "verity.roothash", "systemd.verity_root_hash", "strongroom.roothash")
"""Options of a kernel's command line that name the root hash of a verity device."""


def measure(spec: LaunchSpec, images: Mapping[Digest, bytes], *, bank: str = "sha256") -> Expected:
    """The registers of `spec`; `images` holds the content of every pinned file (`launch.spec.read_images`).

    `bank` is the hash of a TPM's registers. Raises `MalformedImage` for files that do not parse, and `NotMeasurable` for
    machines of which something that decides what runs would not be measured.
    """
    image = images[spec.boot.image.digest]
    if spec.firmware is None:
        enclave = eif.parse_eif(image)
        _nothing_secret(eif.command_line(enclave))
        return eif.pcrs(enclave)
    files = _files(spec, images)
    _nothing_secret(files.command_line)
    _devices(spec, files.command_line)
    return _measured(spec, spec.firmware, images, files, bank)


def _measured(
    spec: LaunchSpec, firmware: Firmware, images: Mapping[Digest, bytes], files: Files, bank: str
) -> Expected:
    code = images[firmware.code.digest]
    if spec.tee == "snp":
        if firmware.variables is not None or firmware.secure_boot == "on" or firmware.observed:
            raise NotMeasurable(
                "SEV-SNP's measurement covers no variables, no Secure Boot, and nothing that is observed"
            )
        kernel = files.uki.program.data if files.uki else files.kernel
        initrd, line = (b"", "") if files.uki else (files.initrd, files.command_line)
        return snp.measurement(spec, code, kernel, initrd, line)
    variables = read_variables(images[firmware.variables.digest]) if firmware.variables else {}
    if spec.tee == "tdx":
        if firmware.variables is not None:
            raise NotMeasurable("a trust domain has no file of variables: its firmware brings them, measured")
        return tdx.registers(spec, firmware, code, files, variables)
    return tpm.pcrs(spec, firmware, files, variables, bank)


def _files(spec: LaunchSpec, images: Mapping[Digest, bytes]) -> Files:
    boot, image = spec.boot, images[spec.boot.image.digest]
    if boot.kind == "linux":
        initrd = images[boot.initrd.digest] if boot.initrd else b""
        return Files(None, image, initrd, boot.command_line or "")
    uki = parse_uki(image)
    return Files(uki, uki.kernel, uki.initrd, uki.command_line)


def _nothing_secret(command_line: str) -> None:
    if looks_secret(command_line):
        raise MalformedImage("the command line that is built in holds a secret: anybody who has the image reads it")


def _devices(spec: LaunchSpec, command_line: str) -> None:
    """Whether the measured command line names every verity device. Raises `NotMeasurable`."""
    wanted = [device.root_hash for device in spec.devices if device.kind in MEASURED]
    named = _root_hashes(command_line) if wanted else set()
    for root_hash in wanted:
        if root_hash not in named:
            raise NotMeasurable(f"the command line does not name the root hash {root_hash} of a verity-disk")


def _root_hashes(command_line: str) -> set[str]:
    """The root hashes that a command line names. Raises `NotMeasurable` where two readers of it could find different ones."""
    found: dict[str, str] = {}
    words = command_line.split()
    if {"'", '"', "\\"} & set(command_line):
        raise NotMeasurable(
            "quotation marks in a command line that names a verity-disk: not everybody reads them alike"
        )
    for place, word in enumerate(words):
        name, _, value = word.partition("=")
        option = name.removeprefix("rd.").replace("-", "_")  # systemd takes these for the same option
        if option not in ROOT_HASH_OPTIONS:
            continue
        if name != option or "--" in words[:place]:
            raise NotMeasurable(f"{name} after -- or in another spelling: not everybody reads it")
        if found.setdefault(name, value) != value:
            raise NotMeasurable(f"the command line gives {name} two values")
    return set(found.values())
