"""Launch specifications for tests, with the images that they pin; none of the images boots."""

from dataclasses import replace
from pathlib import Path

from strongroom.launch.measure import Expected
from strongroom.launch.place import Place
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.launch import Boot, Device, Firmware, Gpus, LaunchSpec, Machine, PinnedFile, Workload
from strongroom.tee.eventlog import Event, Log, Style, codes
from strongroom_sim import images
from strongroom_sim.eventlog import SPEC, serialise

KERNEL, INITRD = images.kernel(), b"initrd"
LINE = "console=ttyS0 quiet"
REASON = "what goes through is sealed"
DEVICES = (
    Device("console", None, "kernel messages only; the worker logs by an allow-list"),
    Device("network", None, REASON),
    Device("disk", None, "encrypted with a key that is made inside"),
    Device("rng", None, "the kernel mixes it with the CPU's own"),
    Device("vsock", None, REASON),
)
FILES = {
    "worker.efi": images.unified(),
    "vmlinuz": KERNEL,
    "initrd": INITRD,
    "OVMF.fd": images.firmware(),
    "OVMF_VARS.fd": images.variables(),
    "worker.eif": images.enclave(),
}


def pinned(name: str) -> PinnedFile:
    return PinnedFile(name, digest_bytes(FILES[name]))


UKI = Boot("uki", pinned("worker.efi"), None, None, ())
LINUX = Boot("linux", pinned("vmlinuz"), pinned("initrd"), LINE, ())
EIF = Boot("eif", pinned("worker.eif"), None, None, ())
STATELESS = Firmware(pinned("OVMF.fd"), None, "absent", {})
FLASH = Firmware(pinned("OVMF.fd"), pinned("OVMF_VARS.fd"), "off", {"pcr0": "a0" * 32})
ACPI = {"acpi-loader": "a1" * 48, "acpi-rsdp": "a2" * 48, "acpi-tables": "a3" * 48}
TPM = LaunchSpec(
    name="worker",
    tee="tpm",
    machine=Machine("7.2", "max", 2, 2048, None),
    boot=UKI,
    firmware=FLASH,
    devices=DEVICES,
    gpus=None,
    workload=Workload("inference", (digest_bytes(b"model"),), None),
)
TDX = replace(TPM, tee="tdx", machine=Machine("10.1", "host", 4, 8192, None), firmware=STATELESS, boot=LINUX)
TDX_GPU = replace(TDX, boot=UKI, gpus=Gpus("hopper", 1, "cc"))
SNP = replace(TDX, tee="snp", machine=Machine("10.1", "EPYC-Milan", 3, 4096, 1))
SNP_GPU = replace(SNP, gpus=Gpus("hopper", 2, "cc"))
NITRO = replace(TPM, tee="nitro", machine=Machine(None, "nitro", 2, 2048, None), boot=EIF, firmware=None, devices=())
SPECS = {
    "tpm": TPM,
    "tpm-linux": replace(TPM, boot=LINUX),
    "tdx": TDX,
    "tdx-gpu": TDX_GPU,
    "snp": SNP,
    "snp-gpu": SNP_GPU,
}


def content() -> dict[Digest, bytes]:
    """Every image by its digest."""
    return {digest_bytes(data): data for data in FILES.values()}


def write_files(folder: Path) -> None:
    for name, data in FILES.items():
        (folder / name).write_bytes(data)


def log_of(expected: Expected, style: Style, bank: str) -> bytes:
    """An event log of a machine that measured just what is expected; events hold their descriptions."""
    numbers = {name: number for number, name in codes.NAMES.items()}
    events = []
    for row in expected.inputs:
        number = int(row.register.lstrip("pcrtm"))
        index = number if style is Style.TPM else number + 1
        digests = ((bank, bytes.fromhex(row.digest)),)
        events.append(Event(len(events), index, numbers[row.type], digests, row.description.encode()))
    return serialise(Log(style, SPEC, (bank,), tuple(events)))


def place_for(spec: LaunchSpec) -> Place:
    """A host for one of `SPECS`."""
    disk = Path("/var/lib/strongroom/worker/boot.img") if spec.boot.kind == "uki" and spec.tee != "snp" else None
    return Place(
        images=Path("/srv/images"),
        state=Path("/var/lib/strongroom/worker"),
        accelerator="tcg" if spec.tee == "tpm" else "kvm",
        boot_disk=disk,
        disks=(Path("/var/lib/strongroom/worker/scratch,1.img"),),
        gpus=tuple(f"0000:{0x41 + number:02x}:00.0" for number in range(spec.gpus.count if spec.gpus else 0)),
        ports={8443: 443},
        vsock_cid=7,
    )
