"""What a launch specification refuses, and what its digest is over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launching import DEVICES, NITRO, SNP, SPECS, TDX, TPM, UKI, write_files

from strongroom.errors import FileUnreadable, ImageChanged, MalformedRecord
from strongroom.launch.spec import from_toml, read_images, to_toml
from strongroom.records.launch import Device, Gpus, LaunchSpec, PinnedFile, looks_secret

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize("spec", [*SPECS.values(), NITRO], ids=[*SPECS, "nitro"])
def test_a_specification_survives_being_written_and_read(spec):
    assert from_toml(to_toml(spec)) == spec


def test_every_member_is_in_the_digest():
    changed = [
        replace(TPM, name="other"),
        replace(TPM, boot=replace(UKI, phases=("enter-initrd",))),
        replace(TPM, machine=replace(TPM.machine, memory=2049)),
        replace(TPM, devices=DEVICES[1:]),
        replace(TPM, workload=None),
        replace(TDX, gpus=Gpus("hopper", 8, "ppcie")),
    ]
    assert len({spec.digest for spec in (TPM, *changed)}) == len(changed) + 1


def test_the_image_is_its_file_or_all_three_of_a_kernel():
    assert TPM.image == UKI.image.digest
    assert TDX.image not in {TDX.boot.image.digest, replace(TDX, boot=replace(TDX.boot, command_line="ro")).image}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpus = 4", 'cpus = 4\nbios = "x"'),
        ('name = "worker"', 'name = "worker"\nextra = 1'),
        ("secure_boot", "secureboot"),
        ('kind = "linux"', 'kind = "multiboot"'),
        ('tee = "tdx"', 'tee = "sgx"'),
        ("cpus = 4", "cpus = 4.5"),
        ("memory = 8192", "memory = 0"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(text, said):
    written = to_toml(TDX)
    assert text in written
    with pytest.raises(MalformedRecord):
        from_toml(written.replace(text, said, 1))


def test_an_image_that_is_not_pinned_is_refused():
    unpinned = to_toml(TDX).replace(f', digest = "{TDX.boot.image.digest}"', "")
    with pytest.raises(MalformedRecord, match="lacks the member 'digest'"):
        from_toml(unpinned)
    with pytest.raises(MalformedRecord, match="not a Digest"):
        from_toml(to_toml(TDX).replace(TDX.boot.image.digest, "sha256:latest"))


@pytest.mark.parametrize("kind", ["9p", "virtiofs", "usb", "ivshmem", "pci", ""])
def test_devices_that_cannot_be_measured_are_refused(kind):
    with pytest.raises(ValueError, match="cannot be measured"):
        Device(kind, None, "trust me")


def test_a_device_is_measured_or_excused_and_never_both():
    assert Device("verity-disk", "00" * 32, None).root_hash
    for kind, root_hash, harmless in (
        ("disk", None, None), ("disk", None, "  "), ("network", "00" * 32, "why"), ("verity-disk", None, None),
        ("verity-disk", "00" * 32, "why"), ("verity-disk", "00" * 31, None),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"measured|harmless|root hash"):
            Device(kind, root_hash, harmless)


@pytest.mark.parametrize(
    "change",
    [
        {"tee": "nitro"},
        {"tee": "snp"},
        {"firmware": None},
        {"machine": replace(TPM.machine, qemu=None)},
        {"gpus": Gpus("hopper", 1, "cc")},
        {"name": "Not A Word"},
        {"devices": DEVICES * 20},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change):
    with pytest.raises(ValueError, match=r".+"):
        replace(TPM, **change)


def test_sev_snp_must_be_among_the_features_of_its_guests():
    with pytest.raises(ValueError, match="features"):
        replace(SNP.machine, snp_features=2)


@pytest.mark.parametrize(
    "line",
    [
        "quiet password=hunter2", "root_passwd=x", "hf_token=hf_abc", "API-KEY=1", "x=-----BEGIN PRIVATE KEY-----",
        "systemd.set_credential=a:b", "client_secret = 3", "Authorization: Bearer abc",
    ],
)  # fmt: skip
def test_nothing_that_looks_secret_is_in_a_command_line(line):
    assert looks_secret(line)
    with pytest.raises(ValueError, match="secret"):
        replace(TDX.boot, command_line=line)


@pytest.mark.parametrize("line", ["console=ttyS0 quiet", "roothash=" + "ab" * 32, "lockdown=confidentiality"])
def test_what_usually_stands_there_is_not_taken_for_a_secret(line):
    assert replace(TDX.boot, command_line=line).command_line == line


@pytest.mark.parametrize("line", ["a\nb", "a\0b", "naïve", "x" * 5000])
def test_a_command_line_is_printable_ascii(line):
    with pytest.raises(ValueError, match="ASCII"):
        replace(TDX.boot, command_line=line)


@pytest.mark.parametrize("name", ["", "a,readonly=off", "a\nb", "a\0b"])
def test_a_file_name_is_no_option_of_qemu(name):
    with pytest.raises(ValueError, match="file"):
        PinnedFile(name, DIGEST)


@pytest.mark.parametrize("name", ["rtmr0", "acpi-loader", "acpi-rsdp", "acpi-tables"])
def test_what_tdx_shows_is_of_its_own_hash(name):
    assert replace(TDX.firmware, observed={name: "a1" * 48}).observed
    with pytest.raises(ValueError, match="SHA-384"):
        replace(TDX.firmware, observed={name: "a1" * 32})


def test_files_are_read_only_if_they_are_those_that_are_pinned(tmp_path):
    write_files(tmp_path)
    assert set(read_images(TPM, tmp_path)) == {file.digest for file in TPM.files}
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(kernel.read_bytes() + b"\0")
    with pytest.raises(ImageChanged) as refused:
        read_images(TDX, tmp_path)
    assert TDX.boot.image.digest in refused.value.detail
    kernel.unlink()
    with pytest.raises(FileUnreadable):
        read_images(TDX, tmp_path)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        assert isinstance(from_toml(text), LaunchSpec)
    except MalformedRecord:
        pass


def test_a_specification_is_not_too_long():
    with pytest.raises(MalformedRecord, match="exceeds"):
        from_toml("#" * (64 * 1024 + 1))
