"""Verified paths are kept, and only for what they were verified for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strongroom.crypto import x509
from strongroom.records.verdict import Status
from strongroom.tee.snp import parse_report, verify
from strongroom.tee.snp.endorsement import LISTS, PATHS

DATA = bytes(64)
YEAR = 366 * 86_400


@pytest.fixture(autouse=True)
def forgotten():
    PATHS.clear()
    LISTS.clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which paths and lists are verified anew."""
    calls: list[str] = []
    path, crl = x509.check_path, x509.check_crl

    def check_path(*arguments: Any, **named: Any) -> Any:
        calls.append("path")
        return path(*arguments, **named)

    def check_crl(*arguments: Any, **named: Any) -> Any:
        calls.append("crl")
        return crl(*arguments, **named)

    monkeypatch.setattr(x509, "check_path", check_path)
    monkeypatch.setattr(x509, "check_crl", check_crl)
    return calls


def failures(genuine: Any) -> set[str]:
    return {check.id for check in genuine.checks if check.status is Status.FAIL}


def test_a_repeated_report_verifies_neither_path_nor_list_again(place: Any, counted: list[str]):
    first, second = place.judge(place.chip.report(DATA)), place.judge(place.chip.report(bytes([1]) * 64))
    assert first.checks == second.checks
    assert counted == ["path", "crl"]


def test_a_kept_path_does_not_outlive_a_certificate_or_begin_before_it(place: Any, counted: list[str]):
    chip, collateral = place.make(vlek=True)
    report = chip.report(DATA)
    assert failures(place.judge(report, collateral)) == set()
    later, earlier = place.now + YEAR, place.now - 86_401
    for now in (later, earlier):
        assert "snp.chain" in failures(place.judge(report, collateral, now))
    assert failures(place.judge(report, collateral)) == set()
    assert counted.count("path") == 3


def test_a_kept_list_does_not_outlive_its_next_update(place: Any, counted: list[str]):
    report = place.chip.report(DATA)
    assert failures(place.judge(report)) == set()
    assert failures(place.judge(report, now=place.now + 30 * 86_400 + 1)) == {"snp.crl"}
    assert failures(place.judge(report)) == set()
    assert counted == ["path", "crl", "crl"]


def test_another_leaf_chain_list_or_root_is_verified_for_itself(place: Any, counted: list[str]):
    report = place.chip.report(DATA)
    place.judge(report)
    chip, other = place.make()
    assert failures(place.judge(chip.report(DATA), other)) == set()
    assert counted == ["path", "crl", "path"]
    revoked = place.installation.crl(place.now, revoked=("ask",))
    assert failures(place.judge(report, replace(place.collateral, crl=revoked))) == {"snp.crl"}
    broken = bytearray(place.collateral.leaf)
    broken[-9] ^= 1
    assert failures(place.judge(report, replace(place.collateral, leaf=bytes(broken)))) == {"snp.chain"}
    foreign = replace(place.anchor, fingerprint="sha256:" + "00" * 32)
    assert failures(verify(parse_report(report), place.collateral, [foreign], place.now)) == {"snp.anchor"}


def test_what_does_not_hold_is_not_kept(place: Any, counted: list[str]):
    revoked = replace(place.collateral, crl=place.installation.crl(place.now, revoked=("ask",)))
    for _ in range(2):
        assert failures(place.judge(place.chip.report(DATA), revoked)) == {"snp.crl"}
    broken = bytearray(place.collateral.leaf)
    broken[-9] ^= 1
    for _ in range(2):
        assert failures(place.judge(place.chip.report(DATA), replace(place.collateral, leaf=bytes(broken)))) == {
            "snp.chain"
        }
    assert counted == ["path", "crl", "crl", "path", "path"]


def test_a_kept_path_never_excuses_the_report_itself(place: Any):
    report = place.chip.report(DATA)
    place.judge(report)
    changed = report[:0x90] + bytes([report[0x90] ^ 1]) + report[0x91:]
    assert failures(place.judge(changed)) == {"snp.report.signature"}
