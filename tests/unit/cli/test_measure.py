"""`strongroom measure`: the table, the document, signed reference values; and everything it refuses."""

from dataclasses import replace

import pytest
from launching import ACPI, NITRO, SNP, TDX, TPM, write_files

from strongroom.appraisal.signed import open_references
from strongroom.appraisal.statement import launch_register
from strongroom.crypto.signatures import public_from_pem
from strongroom.launch.spec import to_toml
from strongroom.records.envelope import Envelope


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_files(tmp_path)
    for spec in (TPM, TDX, SNP, NITRO):
        (tmp_path / f"{spec.tee}.toml").write_text(to_toml(spec))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_registers_are_a_table(strongroom, folder):  # noqa: ARG001 (the files are there)
    ran = strongroom("measure", "tpm.toml", "--inputs")
    assert ran.code == 0
    assert f"spec   {TPM.digest}" in ran.out
    assert "pcr1 is not computed" in ran.out
    assert "command line: LOADED_IMAGE::LoadOptions" in ran.out


@pytest.mark.parametrize("spec", [TPM, TDX, SNP, NITRO], ids=lambda spec: spec.tee)
def test_registers_are_a_document(strongroom, folder, spec):  # noqa: ARG001
    document = strongroom("measure", f"{spec.tee}.toml", "--json").document
    assert (document["spec"], document["image"], document["kind"]) == (spec.digest, spec.image, spec.tee)
    assert document["registers"]
    launch = {"tdx": ("mrconfigid", "sha384"), "snp": ("host_data", "sha256")}.get(spec.tee)
    expected = {launch[0]: launch_register(spec.digest, launch[1])} if launch else {}
    assert document["launch"] == expected


def test_reference_values_are_signed(strongroom, folder):
    assert strongroom("keys", "new", "builder.pem").code == 0
    words = ("--reference", "references.json", "--identity", "builder.pem", "--builder", "us", "--edition", "3")
    ran = strongroom("measure", "tpm.toml", *words)
    assert ran.code == 0, ran.err
    key = public_from_pem((folder / "builder.pem.pub").read_bytes())
    _, values = open_references(Envelope.from_bytes((folder / "references.json").read_bytes()), key)
    (reference,) = values.references
    assert (values.builder, values.version, reference.image, reference.kind) == ("us", 3, TPM.image, "tpm")
    assert reference.registers["pcr0"] == ("a0" * 32,)
    assert {row.register for row in values.inputs} >= {"pcr4", "pcr9", "pcr11"}
    again = strongroom("measure", "tpm.toml", *words)
    assert again.code == 2, "strongroom overwrites nothing"


def test_reference_values_are_whole_or_none(strongroom, folder):
    strongroom("keys", "new", "builder.pem")
    ran = strongroom("measure", "tdx.toml", "--reference", "r.json", "--identity", "builder.pem", "--json")
    assert (ran.code, ran.error) == (1, "launch.not_measurable")
    assert not (folder / "r.json").exists()
    known = replace(TDX, firmware=replace(TDX.firmware, observed=ACPI))
    (folder / "known.toml").write_text(to_toml(known))
    assert strongroom("measure", "known.toml", "--reference", "r.json", "--identity", "builder.pem").code == 0
    assert strongroom("measure", "tpm.toml", "--reference", "x.json").code == 2


def test_a_file_that_was_changed_after_it_was_pinned_is_refused(strongroom, folder):
    with (folder / "worker.efi").open("ab") as file:
        file.write(b"\0")
    ran = strongroom("measure", "tpm.toml", "--json")
    assert (ran.code, ran.error) == (1, "launch.image_changed")


def test_what_does_not_parse_is_unreadable(strongroom, folder):
    (folder / "bad.toml").write_text(to_toml(TPM).replace('name = "worker"', 'name = "worker"\nextra = 1'))
    assert strongroom("measure", "bad.toml", "--json").error == "record.malformed"
    wrong = replace(TPM, boot=replace(TPM.boot, image=TPM.firmware.code))
    (folder / "wrong.toml").write_text(to_toml(wrong))
    ran = strongroom("measure", "wrong.toml", "--json")
    assert (ran.code, ran.error) == (3, "launch.image_malformed")
    assert strongroom("measure", "missing.toml").code == 3
