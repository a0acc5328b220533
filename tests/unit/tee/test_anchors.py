"""Anchors: an operator's root is of class installation, unless it is a vendor's."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.errors import MalformedEvidence
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import INTEL_SGX_ROOT, VENDOR_ANCHORS, installation_anchor
from strongroom_sim import Installation


def test_an_installation_root_is_of_class_installation(tmp_path: Path):
    installation = Installation.create(tmp_path / "place", now=1_790_000_000)
    anchor = installation_anchor("tdx", installation.root_pem)
    assert anchor.root_class is RootClass.INSTALLATION
    assert anchor not in VENDOR_ANCHORS


def test_a_vendors_root_is_itself_however_it_was_given(vectors: Path):
    chain = (vectors / "tdx" / "pcs2026-03_tcb_signing_chain.pem").read_text()
    root = chain[chain.rindex("-----BEGIN") :]
    assert installation_anchor("tdx", root) == INTEL_SGX_ROOT
    assert installation_anchor("snp", root).root_class is RootClass.INSTALLATION


def test_a_file_that_is_not_one_certificate_is_refused(tmp_path: Path):
    installation = Installation.create(tmp_path / "place", now=1_790_000_000)
    for pem in (b"", b"hello", installation.pck_chain, installation.root_pem + b"x", installation.root_pem[:-30]):
        with pytest.raises(MalformedEvidence):
            installation_anchor("tdx", pem)
