"""The domain with which libvirt starts a machine as specified.

Knows: libvirt's domain XML (libvirt.org, "Domain XML format": `os`, `launchSecurity`, `tpm`), in two dialects for TDX: upstream's
(since 11.6), and that of Canonical's packages, which names the quote service and memory otherwise. Does not know: connections
(`launch`), or what the registers will be (`measure`). What is measured depends on the domain as it does on QEMU's arguments
(`qemu`). Nothing secret is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring  # only written, never parsed

from strongroom.launch.place import DISKS, Place, boots_from_disk, check_place, register_value
from strongroom.launch.qemu import GPU_WINDOW_MIB, SNP_POLICY
from strongroom.records.launch import Firmware, LaunchSpec

Dialect = Literal["upstream", "canonical"]
TDX_POLICY = 0x10000000
"""SEPT_VE_DISABLE; the bit of debugging is not set."""
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
OURS = "urn:strongroom:launch:v1"
"""The namespace of what a domain says of its launch: whose it is, for whoever finds it again."""
SOCKET = "/var/run/tdx-qgs/qgs.socket"


def domain(spec: LaunchSpec, place: Place, *, dialect: Dialect = "upstream") -> str:
    """The domain's XML. Raises `UsageError` where host and specification do not fit."""
    check_place(spec, place)
    if spec.firmware is None:  # check_place has refused it
        raise AssertionError
    root = Element("domain", type="kvm" if place.accelerator == "kvm" else "qemu")
    if place.gpus:
        root.set("xmlns:qemu", QEMU_NAMESPACE)
    _text(root, "name", spec.name)
    told = {"xmlns:strongroom": OURS, "state": str(place.state), "spec": spec.digest}
    SubElement(SubElement(root, "metadata"), "strongroom:launch", told)
    _text(root, "memory", str(spec.machine.memory), unit="MiB")
    _text(root, "vcpu", str(spec.machine.cpus), placement="static")
    _memory(root, spec, dialect)
    _os(root, spec, spec.firmware, place)
    _features(root, spec, spec.firmware, dialect)
    _cpu(root, spec)
    for event, action in (("poweroff", "destroy"), ("reboot", "destroy"), ("crash", "destroy")):
        _text(root, f"on_{event}", action)
    _devices(root, spec, place)
    _security(root, spec, place, dialect)
    if place.gpus:
        line = SubElement(root, "qemu:commandline")
        for value in ("-fw_cfg", f"name=opt/ovmf/X-PciMmio64Mb,string={GPU_WINDOW_MIB}"):
            SubElement(line, "qemu:arg", value=value)
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _text(parent: Element, name: str, text: str, **attributes: str) -> Element:
    made = SubElement(parent, name, attributes)
    made.text = text
    return made


def _memory(root: Element, spec: LaunchSpec, dialect: Dialect) -> None:
    if spec.tee == "snp":
        SubElement(SubElement(root, "memoryBacking"), "source", type="memfd")
        SubElement(root[-1], "access", mode="shared")
    elif spec.tee == "tdx" and dialect == "canonical":
        SubElement(SubElement(root, "memoryBacking"), "source", type="anonymous")
        SubElement(root[-1], "access", mode="private")


def _os(root: Element, spec: LaunchSpec, firmware: Firmware, place: Place) -> None:
    os = SubElement(root, "os")
    _text(os, "type", "hvm", arch="x86_64", machine="q35")
    code = place.file(firmware.code)
    if spec.tee != "tpm":
        _text(os, "loader", code, type="rom", format="raw", stateless="yes")
    else:
        secure = "yes" if firmware.secure_boot == "on" else "no"
        _text(os, "loader", code, readonly="yes", secure=secure, type="pflash")
        if firmware.variables is not None:
            _text(os, "nvram", str(place.variables), template=place.file(firmware.variables))
    if not boots_from_disk(spec):
        _text(os, "kernel", place.file(spec.boot.image))
        if spec.boot.initrd is not None:
            _text(os, "initrd", place.file(spec.boot.initrd))
        if spec.boot.command_line:
            _text(os, "cmdline", spec.boot.command_line)


def _features(root: Element, spec: LaunchSpec, firmware: Firmware, dialect: Dialect) -> None:
    features = SubElement(root, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    if spec.tee == "tdx" and dialect == "canonical":
        SubElement(features, "ioapic", driver="qemu")
    secure = spec.tee == "tpm" and firmware.secure_boot == "on"
    SubElement(features, "smm", state="on" if secure else "off")


def _cpu(root: Element, spec: LaunchSpec) -> None:
    model = spec.machine.cpu
    if model == "host":
        SubElement(root, "cpu", mode="host-passthrough", check="none")
    elif model == "max":
        SubElement(root, "cpu", mode="maximum", check="none")
    else:
        cpu = SubElement(root, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", model, fallback="forbid")


def _devices(root: Element, spec: LaunchSpec, place: Place) -> None:
    devices = SubElement(root, "devices")
    if boots_from_disk(spec):
        disk = _disk(devices, spec, str(place.boot_disk), "vda", readonly=True)
        SubElement(disk, "boot", order="1")
    disks = iter(zip(place.disks, _names(), strict=False))
    for device in spec.devices:
        if device.kind in DISKS:
            path, name = next(disks)
            _disk(devices, spec, str(path), name, readonly=device.kind == "verity-disk")
        elif device.kind == "network":
            interface = SubElement(devices, "interface", type="user")
            SubElement(interface, "model", type="virtio")
            _driver(interface, spec)
            SubElement(interface, "rom", enabled="no")
        elif device.kind == "vsock":
            vsock = SubElement(devices, "vsock", model="virtio")
            SubElement(vsock, "cid", auto="no", address=str(place.vsock_cid))
        elif device.kind == "rng":
            rng = SubElement(devices, "rng", model="virtio")
            _text(rng, "backend", "/dev/urandom", model="random")
            _driver(rng, spec)
        elif device.kind == "console":
            serial = SubElement(devices, "serial", type="file")
            SubElement(serial, "source", path=str(place.console))
            SubElement(serial, "target", port="0")
    SubElement(devices, "controller", type="usb", model="none")
    if spec.tee == "tpm":
        tpm = SubElement(devices, "tpm", model="tpm-tis")
        SubElement(tpm, "backend", type="emulator", version="2.0")
    for address in place.gpus:
        _gpu(devices, address)
    SubElement(devices, "memballoon", model="none")


def _names() -> Iterator[str]:
    """`vdb`, `vdc` … `vdz`, `vdaa` …: the first is the disk that is booted."""
    for first in ("", *ascii_lowercase):
        for last in ascii_lowercase:
            if first + last != "a":
                yield f"vd{first}{last}"


def _disk(devices: Element, spec: LaunchSpec, path: str, name: str, *, readonly: bool) -> Element:
    disk = SubElement(devices, "disk", type="file", device="disk")
    driver = SubElement(disk, "driver", name="qemu", type="raw")
    if spec.tee != "tpm":
        driver.set("iommu", "on")
    SubElement(disk, "source", file=path)
    SubElement(disk, "target", dev=name, bus="virtio")
    if readonly:
        SubElement(disk, "readonly")
    return disk


def _driver(device: Element, spec: LaunchSpec) -> None:
    if spec.tee != "tpm":
        SubElement(device, "driver", iommu="on")


def _gpu(devices: Element, address: str) -> None:
    place, _, function = address.rpartition(".")
    numbers = [int(number, 16) for number in place.split(":")]
    bus, slot, segment = numbers[-2], numbers[-1], numbers[0] if len(numbers) > len("xx") else 0
    hostdev = SubElement(devices, "hostdev", mode="subsystem", type="pci", managed="yes")
    SubElement(hostdev, "driver", name="vfio")
    source = SubElement(hostdev, "source")
    SubElement(
        source,
        "address",
        domain=f"0x{segment:04x}",
        bus=f"0x{bus:02x}",
        slot=f"0x{slot:02x}",
        function=f"0x{int(function, 16):x}",
    )
    SubElement(hostdev, "rom", bar="off")


def _security(root: Element, spec: LaunchSpec, place: Place, dialect: Dialect) -> None:
    if spec.tee == "tdx":
        security = SubElement(root, "launchSecurity", type="tdx")
        _text(security, "policy", f"{TDX_POLICY:#x}")
        _text(security, "mrConfigId", register_value(spec))
        if dialect == "canonical":
            service = SubElement(security, "quoteGenerationService")
            quotes = place.quotes
            SubElement(service, "SocketAddress", type="vsock", cid=str(quotes.cid), port=str(quotes.port))
        else:
            SubElement(security, "quoteGenerationService", path=place.quotes.path or SOCKET)
    elif spec.tee == "snp":
        security = SubElement(root, "launchSecurity", type="sev-snp", kernelHashes="yes")
        _text(security, "cbitpos", str(place.c_bit))
        _text(security, "reducedPhysBits", str(place.reduced_bits))
        _text(security, "policy", f"{SNP_POLICY:#x}")
        _text(security, "hostData", register_value(spec))
