"""What is computed and rendered for a launch, against other people's programs and against machines that really boot.

What is proved here: registers that were computed before a boot are those that OVMF, systemd-stub and the kernel extend in a
QEMU machine with a software TPM, started by our own arguments; launch digests are those of `sev-snp-measure`, PCR 11 that of
`systemd-measure`; domains are valid by libvirt's schema, as far as Debian's libvirt knows the elements.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from booting import archive, firmware, kernel, pinned, run, there, unified
from launching import SNP, SPECS, TPM, content, place_for

from strongroom.launch.explain import explain_launch
from strongroom.launch.libvirt import domain
from strongroom.launch.measure import measure, tdx, tpm, uefi
from strongroom.launch.measure.expected import Chain
from strongroom.launch.measure.firmware import read_variables
from strongroom.launch.measure.uki import parse_uki
from strongroom.launch.place import Place
from strongroom.launch.qemu import arguments
from strongroom.launch.spec import read_images
from strongroom.records.digest import digest_bytes
from strongroom.records.launch import Boot, Device, LaunchSpec, Machine
from strongroom.tee.eventlog import Style, inputs, parse_log
from strongroom_sim import images

LINE = "console=ttyS0 quiet panic=-1"
MEASURE = shutil.which("systemd-measure", path="/lib/systemd:/usr/lib/systemd")
DEBIAN_OVMF = "7473d3f1598af695cdfec48762342c0fc96327be"
MICROSOFT_KEYS = "sha256:e6044c5d1fd81998a5967d907ec425e48da534832c7d9b0b4c7a702b62019c50"
PATIENCE = 150
INIT = """#!/bin/busybox sh
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t securityfs security /sys/kernel/security
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo "pcr$n=$(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/$n)"; done
echo LOG-BEGIN
/bin/busybox base64 /sys/kernel/security/tpm0/binary_bios_measurements
echo LOG-END
/bin/busybox poweroff -f
"""


@dataclass
class World:
    """The files of a machine that boots to print its registers, and its two specifications."""

    folder: Path
    initrd: Path
    uki: LaunchSpec
    linux: LaunchSpec

    def boot(self, spec: LaunchSpec) -> tuple[dict[str, str], bytes]:
        """Registers and event log of a machine that is started from `spec` by our own arguments."""
        state = self.folder / spec.name
        state.mkdir()
        firmware = spec.firmware
        shutil.copy(firmware.variables.file, state / "vars.fd")
        disk = None
        if spec.boot.kind == "uki":
            disk = state / "boot.img"
            disk.touch()
            os.truncate(disk, 96 << 20)
            run("mformat", "-i", disk, "-F", "::")
            run("mmd", "-i", disk, "::/EFI", "::/EFI/BOOT")
            run("mcopy", "-i", disk, spec.boot.image.file, "::/EFI/BOOT/BOOTX64.EFI")
        tpm_words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state},mode=0600", "--terminate"]
        tpm_words += ["--ctrl", f"type=unixio,path={state}/tpm.sock", "--flags", "startup-clear"]
        with subprocess.Popen(tpm_words, stdout=subprocess.DEVNULL) as chip:
            for _ in range(100):
                if (state / "tpm.sock").exists():
                    break
                time.sleep(0.05)
            place = Place(images=self.folder, state=state, accelerator="tcg", boot_disk=disk)
            subprocess.run(arguments(spec, place), check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
            chip.wait(timeout=30)
        printed = (state / "console.log").read_bytes().decode("latin1").replace("\r", "")
        registers = {name: value.lower() for name, value in re.findall(r"(pcr\d+)=([0-9A-F]{64})", printed)}
        written = re.search(r"LOG-BEGIN\n(.*)LOG-END", printed, re.DOTALL)
        assert written, printed[-2000:]
        return registers, base64.b64decode(written[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("launch")
    busybox = there(shutil.which("busybox"), "busybox").read_bytes()
    initrd = folder / "initrd"
    folders = dict.fromkeys(("bin", "sys", "dev", "proc"))
    initrd.write_bytes(archive({**folders, "bin/busybox": busybox, "init": INIT.encode()}))
    image = unified(folder, kernel(), initrd, LINE)
    devices = (Device("console", None, "it prints registers"),)
    machine = Machine("7.2", "max", 1, 2048, None)
    spec = replace(TPM, name="uki", machine=machine, firmware=firmware(), devices=devices, workload=None)
    spec = replace(spec, boot=Boot("uki", pinned(image), None, None, ()))
    linux = replace(spec, name="linux", boot=Boot("linux", pinned(kernel()), pinned(initrd), LINE, ()))
    return World(folder, initrd, spec, linux)


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "mformat", "busybox")
@pytest.mark.parametrize("kind", ["uki", "linux"])
def test_a_machine_holds_what_was_computed_before_it_booted(world, kind):
    spec = getattr(world, kind)
    expected = measure(spec, read_images(spec, world.folder))
    registers, log = world.boot(spec)
    assert {name: registers[name] for name in expected.registers} == dict(expected.registers)
    assert set(expected.unknown) == {"pcr0", "pcr1", "pcr15"}
    live = inputs(parse_log(log, Style.TPM), "sha256")
    for register in expected.registers:
        ours = [(row.type, row.digest, row.description) for row in expected.inputs if row.register == register]
        theirs = [(row.type, row.digest) for row in live if row.register == register]
        assert [row[:2] for row in ours] == theirs
    assert not [text for text in explain_launch(expected, registers, live) if "cannot be computed" not in text]
    if kind == "linux":
        other = replace(spec, boot=replace(spec.boot, command_line=LINE + " debug"))
        said = explain_launch(measure(other, read_images(other, world.folder)), registers, live)
        assert said[0].startswith("command line: pcr9")


@pytest.mark.needs("objcopy")
def test_pcr_11_is_what_systemd_measure_says(world):
    there(MEASURE, "systemd-measure")
    files = {
        "linux": kernel(),
        "osrel": world.folder / "osrel",
        "cmdline": world.folder / "cmdline",
        "initrd": world.initrd,
    }
    words = [f"--{name}={path}" for name, path in files.items()]
    image = parse_uki((world.folder / "worker.efi").read_bytes())
    for phases in ("", "enter-initrd", "enter-initrd:leave-initrd"):
        said = run(MEASURE, "calculate", *words, "--bank=sha256", "--json=short", f"--phase={phases or ':'}")
        chain = Chain("sha256")
        uefi.sections(chain, "pcr11", image)
        for phase in filter(None, phases.split(":")):
            chain.data("pcr11", 0xD, phase.encode(), tpm.PHASE, phase)
        assert chain.finish("tpm").registers["pcr11"] == json.loads(said)["sha256"][0]["hash"]


@pytest.mark.needs("sev-snp-measure")
@pytest.mark.parametrize("cpu", ["EPYC", "EPYC-Rome-v2", "EPYC-Milan", "EPYC-Genoa-v1", "EPYC-Turin"])
@pytest.mark.parametrize("cpus", [1, 3])
def test_the_launch_digest_is_that_of_sev_snp_measure(tmp_path, cpu, cpus):
    from sevsnpmeasure import guest, vcpu_types
    from sevsnpmeasure.sev_mode import SevMode

    paths = {"code": images.firmware(), "kernel": images.kernel(), "initrd": b"initrd"}
    for name, data in paths.items():
        (tmp_path / name).write_bytes(data)
    code, linux, initrd = (str(tmp_path / name) for name in paths)
    spec = replace(SNP, machine=replace(SNP.machine, cpu=cpu, cpus=cpus, snp_features=0x21))
    said = guest.calc_launch_digest(
        SevMode.SEV_SNP, cpus, vcpu_types.CPU_SIGS[cpu], code, linux, initrd, spec.boot.command_line, 0x21
    )
    assert measure(spec, content()).registers["measurement"] == said.hex()


def test_debians_firmware_is_measured_for_tdx():
    code = there("/usr/share/ovmf/OVMF.fd", "ovmf").read_bytes()
    found = [tdx.mrtd(code, qemu) for qemu in ("8.2", "10.1")]
    assert len(set(found)) == 2
    if hashlib.sha1(code, usedforsecurity=False).hexdigest() == DEBIAN_OVMF:
        assert [one[:8] for one in found] == ["acccbcc8", "4c7206f0"]


def test_debians_keys_are_measured():
    """What PCR 7 held in a machine that booted with these variables, with Secure Boot, up to the authority of an image."""
    store = there("/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "ovmf").read_bytes()
    chain, firmware = Chain("sha256"), replace(TPM.firmware, secure_boot="on")
    uefi.secure_boot(chain, "pcr7", firmware, read_variables(store))
    found = chain.finish("tpm").registers["pcr7"]
    if digest_bytes(store) == MICROSOFT_KEYS:
        assert found == "4387f18f9308e9a61cf5cd7685196e15b8c410ee1405d0f07fb3bee71530619d"


@pytest.mark.needs("virt-xml-validate")
@pytest.mark.parametrize("name", SPECS)
def test_domains_are_valid_by_libvirts_schema(tmp_path, name):
    """Schemas before 11.6 know neither `launchSecurity` of these types nor a loader's format: they are left out for those."""
    spec = SPECS[name]
    text = domain(spec, place_for(spec))
    schemas = Path("/usr/share/libvirt/schemas")
    if spec.tee != "tpm" and "<value>tdx</value>" not in (schemas / "domaincommon.rng").read_text():
        text = re.sub(r"<launchSecurity.*</launchSecurity>", "", text, flags=re.DOTALL).replace(' format="raw"', "")
    (tmp_path / "domain.xml").write_text(text)
    run("virt-xml-validate", tmp_path / "domain.xml", "domain")
