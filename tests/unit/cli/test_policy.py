"""Policies at the command line, of every kind of evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.appraisal.kinds import KINDS
from strongroom.appraisal.policies import from_toml
from strongroom.records import codec
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.policy import KINDS as SECTIONS
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
