"""Policies at the command line, of every kind of evidence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launching import ACPI, SNP, STATELESS, TDX, TPM, write_files

from strongroom.appraisal.kinds import KINDS
from strongroom.appraisal.policies import from_toml, to_toml
from strongroom.crypto.signatures import fingerprint, generate_ed25519, public_to_pem, sign_envelope
from strongroom.launch.measure import measure
from strongroom.launch.measure.reference import reference_of
from strongroom.launch.spec import read_images
from strongroom.launch.spec import to_toml as spec_to_toml
from strongroom.records import codec
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.policy import KINDS as SECTIONS
from strongroom.records.policy import Policy, ProvenancePolicy, Requirement
from strongroom_sim.conformance import Subject
from strongroom_sim.subjects import Hardware, subjects


@pytest.fixture(scope="module")
def good() -> Mapping[str, Subject]:
    return subjects(Hardware.make(int(time.time())))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_new_policy_asks_for_the_kind_of_the_evidence_that_it_begins_with(
    strongroom: Callable[..., Any], good: Mapping[str, Subject], kind: str, tmp_path: Path, pytestconfig: pytest.Config
):
    golden = pytestconfig.rootpath / "tests" / "golden" / "evidence-bundle.json"
    bundle = codec.decode(EvidenceBundle, golden.read_bytes())
    evidence = replace(bundle.evidence, kind=kind, quote=good[kind].good.quote)
    (tmp_path / "evidence.json").write_bytes(codec.encode(replace(bundle, evidence=evidence)))
    words = ("--evidence", tmp_path / "evidence.json", "--artifact", "sha256:" + "ab" * 32, "--simulated")
    assert strongroom("policy", "new", "rain", *words, "-o", tmp_path / "policy.toml").code == 0
    policy = from_toml((tmp_path / "policy.toml").read_text())
    assert {reference.kind for reference in policy.references} == {kind}
    sections = {name for name in SECTIONS if getattr(policy, name) is not None}
    cloud, _, hardware = kind.rpartition("-")
    assert sections == ({hardware, "tpm"} if cloud else {kind})


BUILDER = "https://example.org/ci"


def test_explain_says_whether_the_images_provenance_was_given(
    strongroom: Callable[..., Any], tmp_path: Path, pytestconfig: pytest.Config
):
    golden, platform = pytestconfig.rootpath / "tests" / "golden", generate_ed25519()
    policy = codec.decode(Policy, (golden / "policy.json").read_bytes())
    bundle = codec.decode(EvidenceBundle, (golden / "evidence-bundle.json").read_bytes())
    signers = Requirement((fingerprint(platform.public_key()),))
    asked = replace(policy, provenance=ProvenancePolicy(signers, Requirement((BUILDER,))))
    (tmp_path / "policy.toml").write_text(to_toml(asked))
    (tmp_path / "platform.pub").write_bytes(public_to_pem(platform.public_key()))
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": bundle.evidence.statement.image.removeprefix("sha256:")}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {"runDetails": {"builder": {"id": BUILDER}}},
    }
    signed = sign_envelope("application/vnd.in-toto+json", json.dumps(statement).encode(), platform)
    (tmp_path / "provenance.json").write_bytes(signed.to_bytes())
    at = json.loads((golden / "verdict.json").read_bytes())["time"]
    words = ("policy", "explain", golden / "evidence-bundle.json", "--policy", tmp_path / "policy.toml")
    words = (*words, "--anchor", golden / "root.pem", "--at", str(at), "--json")
    given = ("--provenance", tmp_path / "provenance.json")
    without = strongroom(*words)
    assert without.code == 1
    assert [(found["id"], found["status"]) for found in without.document["failed"]] == [
        ("policy.provenance", "not-run")
    ]
    assert "give its provenance" in without.document["failed"][0]["cause"]
    assert strongroom(*words, *given, "--signer-key", tmp_path / "platform.pub").document["accepted"] is True
    assert strongroom(*words, *given).error == "usage"
    (tmp_path / "other.pub").write_bytes(public_to_pem(generate_ed25519().public_key()))
    assert strongroom(*words, *given, "--signer-key", tmp_path / "other.pub").error == "signature.invalid"


def test_a_new_policy_pins_what_is_computed_from_a_specification_before_anything_boots(
    strongroom: Callable[..., Any], tmp_path: Path
):
    write_files(tmp_path)
    configuration = "sha256:" + "cd" * 32
    tdx = replace(TDX, firmware=replace(STATELESS, observed=ACPI))
    for spec, launch_spec in ((TPM, None), (tdx, tdx.digest), (SNP, SNP.digest)):
        (tmp_path / "spec.toml").write_text(spec_to_toml(spec))
        target = tmp_path / f"{spec.tee}.toml"
        words = (
            "--spec",
            tmp_path / "spec.toml",
            "--artifact",
            "sha256:" + "ab" * 32,
            "--configuration",
            configuration,
        )
        done = strongroom("policy", "new", "rain", *words, "-o", target)
        assert done.code == 0, done.err
        policy = from_toml(target.read_text())
        expected = measure(spec, read_images(spec, tmp_path))
        assert policy.references == (reference_of(spec, expected),)
        assert policy.configuration == Requirement(one_of=(configuration,))
        assert policy.launch_spec.one_of == ((launch_spec,) if launch_spec else ())


def test_a_new_policy_has_reference_values_of_one_origin(strongroom: Callable[..., Any], tmp_path: Path):
    artifact = ("--artifact", "sha256:" + "ab" * 32, "--json")
    assert strongroom("policy", "new", "rain", *artifact).error == "usage"
    both = ("--spec", tmp_path / "spec.toml", "--evidence", tmp_path / "evidence.json")
    assert strongroom("policy", "new", "rain", *both, *artifact).error == "usage"
