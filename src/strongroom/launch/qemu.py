"""The arguments with which QEMU starts a machine as specified.

Knows: QEMU's options for TDX (QEMU "Intel Trust Domain eXtension (TDX)", 10.1), SEV-SNP (QEMU "AMD Secure Encrypted
Virtualization", 9.1), and OVMF with a software TPM. What is measured depends on them: no default devices, no option ROMs,
one kernel or one boot disk. Does not know: how the process is kept (`launch`), or what the registers will be (`measure`).
Nothing secret is among the arguments: anybody on the host reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from strongroom.launch.place import DISKS, Place, boots_from_disk, check_place, register_value
from strongroom.records.launch import Firmware, LaunchSpec

PROGRAM = "qemu-system-x86_64"
SNP_POLICY = 0x30000
"""Bit 17, which must be 1, and SMT allowed; debugging and migration are not."""
CONFIDENTIAL = ",disable-legacy=on,iommu_platform=on"
"""What a virtio device needs where the guest's memory is encrypted."""
GPU_WINDOW_MIB = 262144


def arguments(spec: LaunchSpec, place: Place) -> list[str]:
    """The command as a list, the program first; no shell reads it. Raises `UsageError` where host and spec do not fit."""
    check_place(spec, place)
    machine = spec.machine
    firmware = spec.firmware
    if firmware is None:  # check_place has refused it
        raise AssertionError
    return [
        PROGRAM,
        *("-name", spec.name, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-accel", place.accelerator, "-cpu", machine.cpu, "-smp", str(machine.cpus), "-m", f"{machine.memory}M"),
        *{"tdx": _tdx, "snp": _snp, "tpm": _tpm}[spec.tee](spec, firmware, place),
        *_boot(spec, place),
        *_devices(spec, place),
        *_gpus(place),
    ]


def _tdx(spec: LaunchSpec, firmware: Firmware, place: Place) -> Iterable[str]:
    quotes = place.quotes
    socket = {"type": "vsock", "cid": str(quotes.cid), "port": str(quotes.port)}
    if quotes.path is not None:
        socket = {"type": "unix", "path": quotes.path}
    guest = {
        "qom-type": "tdx-guest",
        "id": "tdx0",
        "sept-ve-disable": True,
        "mrconfigid": register_value(spec),
        "quote-generation-socket": socket,
    }
    yield from ("-machine", "q35,kernel-irqchip=split,smm=off,confidential-guest-support=tdx0")
    yield from ("-object", json.dumps(guest))
    yield from ("-bios", place.file(firmware.code))


def _snp(spec: LaunchSpec, firmware: Firmware, place: Place) -> Iterable[str]:
    yield from ("-machine", "q35,smm=off,confidential-guest-support=sev0,memory-backend=ram1")
    yield from ("-object", f"memory-backend-memfd,id=ram1,size={spec.machine.memory}M,share=true,prealloc=false")
    host = f"cbitpos={place.c_bit},reduced-phys-bits={place.reduced_bits}"
    guest = f"sev-snp-guest,id=sev0,policy={SNP_POLICY:#x},kernel-hashes=on,host-data={register_value(spec)},{host}"
    yield from ("-object", guest)
    yield from ("-bios", place.file(firmware.code))


def _tpm(spec: LaunchSpec, firmware: Firmware, place: Place) -> Iterable[str]:
    del spec
    secure = firmware.secure_boot == "on"
    yield from ("-machine", f"q35,smm={'on' if secure else 'off'}")
    if secure:
        yield from ("-global", "driver=cfi.pflash01,property=secure,value=on")
    yield from ("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={place.file(firmware.code)}")
    if firmware.variables is not None:
        yield from ("-drive", f"if=pflash,format=raw,unit=1,file={_value(place.variables)}")
    yield from ("-chardev", f"socket,id=tpm0,path={_value(place.tpm)}")
    yield from ("-tpmdev", "emulator,id=tpm0,chardev=tpm0", "-device", "tpm-tis,tpmdev=tpm0")


def _boot(spec: LaunchSpec, place: Place) -> Iterable[str]:
    boot = spec.boot
    if boots_from_disk(spec):
        yield from ("-drive", f"if=none,id=boot,format=raw,readonly=on,file={_value(place.boot_disk)}")
        yield from ("-device", f"virtio-blk-pci,drive=boot,bootindex=0{_hardened(spec)}")
        return
    yield from ("-kernel", place.file(boot.image))
    if boot.initrd is not None:
        yield from ("-initrd", place.file(boot.initrd))
    if boot.command_line:
        yield from ("-append", boot.command_line)


def _devices(spec: LaunchSpec, place: Place) -> Iterable[str]:
    extra, disks = _hardened(spec), iter(place.disks)
    ports = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in place.ports.items())
    for number, device in enumerate(spec.devices):
        if device.kind in DISKS:
            mode = ",readonly=on" if device.kind == "verity-disk" else ""
            yield from ("-drive", f"if=none,id=disk{number},format=raw{mode},file={_value(next(disks))}")
            yield from ("-device", f"virtio-blk-pci,drive=disk{number}{extra}")
        elif device.kind == "network":
            yield from ("-netdev", f"user,id=net{number}{ports}")
            ports = ""  # a port of the host leads to one network
            yield from ("-device", f"virtio-net-pci,netdev=net{number},romfile={extra}")
        elif device.kind == "vsock":
            yield from ("-device", f"vhost-vsock-pci,guest-cid={place.vsock_cid}{extra}")
        elif device.kind == "rng":
            yield from ("-device", f"virtio-rng-pci{extra}")
        elif device.kind == "console":
            yield from ("-serial", f"file:{_value(place.console)}")


def _gpus(place: Place) -> Iterable[str]:
    if not place.gpus:
        return
    yield from ("-object", "iommufd,id=iommufd0")
    for number, address in enumerate(place.gpus, start=1):
        yield from ("-device", f"pcie-root-port,id=gpu.{number},chassis={number}")
        yield from ("-device", f"vfio-pci,host={address},bus=gpu.{number},iommufd=iommufd0,rombar=0")
    yield from ("-fw_cfg", f"name=opt/ovmf/X-PciMmio64Mb,string={GPU_WINDOW_MIB}")


def _hardened(spec: LaunchSpec) -> str:
    return "" if spec.tee == "tpm" else CONFIDENTIAL


def _value(path: Path | None) -> str:
    """A path within an option, where a comma ends a value unless there are two."""
    return str(path).replace(",", ",,")
