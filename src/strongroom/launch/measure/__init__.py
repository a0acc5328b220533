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
    options = [option.partition("=") for option in command_line.split()]
    named = {value for name, _, value in options if name in ROOT_HASH_OPTIONS}
    for device in spec.devices:
        if device.kind in MEASURED and device.root_hash not in named:
            raise NotMeasurable(f"the command line does not name the root hash {device.root_hash} of a verity-disk")
