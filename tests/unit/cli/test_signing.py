"""Signing and verifying plain folders at the command line, and how signers and trust are named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from certified import authority, person

from strongroom.cli.pins import ask_pin
from strongroom.crypto.signatures import private_to_pem, public_to_pem
from strongroom.errors import UsageError

NOW = "2026-06-01T00:00:00Z"
CA = authority()
ANNA = person("Anna", CA)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for path, data in {"model/a": b"1", "model/sub/b": b"2", "model/.gitignore": b"*"}.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)
    Path("key.pem").write_bytes(private_to_pem(ANNA.key))
    Path("key.pub").write_bytes(public_to_pem(ANNA.key.public_key()))
    Path("anna.pem").write_bytes(ANNA.pem)
    Path("ca.pem").write_bytes(CA.pem)
    return tmp_path


SIGN = ("sign", "model", "-o", "model.sig", "--identity", "key.pem", "--certificate", "anna.pem")
VERIFY = ("verify-signature", "model", "--signature", "model.sig")
BY_NAME = ("--root", "ca.pem", "--subject", "Anna", "--at", NOW)


@pytest.mark.usefixtures("place")
def test_what_is_signed_is_verified_by_key_and_by_name(strongroom: Callable[..., Any]):
    assert "2 files of model" in strongroom(*SIGN).out
    for trust in (("--signer", "key.pub"), BY_NAME):
        found = strongroom(*VERIFY, *trust)
        assert found.code == 0
        assert "left out of account by the signer: .git, .gitattributes, .github, .gitignore" in found.out
    Path("model/a").write_bytes(b"0")
    refused = strongroom(*VERIFY, *BY_NAME)
    assert refused.code == 1
    assert "'a'" in refused.err


@pytest.mark.usefixtures("place")
def test_gits_files_are_signed_where_that_is_said(strongroom: Callable[..., Any]):
    assert strongroom(*SIGN, "--git-files", "--json").document == {"bundle": "model.sig", "name": "model", "files": 3}
    found = strongroom(*VERIFY, "--signer", "key.pub", "--json").document
    assert found == {"name": "model", "algorithm": "sha256", "signed": 3, "ignored": []}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "trust",
    [
        (),
        ("--root", "ca.pem"),
        ("--subject", "Anna"),
        ("--signer", "key.pub", "--root", "ca.pem", "--subject", "Anna"),
        ("--signer", "key.pub", "--subject", "Anna"),
        ("--signer", "key.pub", "--at", NOW),
        ("--at", NOW),
    ],
    ids=" ".join,
)
def test_trust_is_named_in_one_way_and_wholly(strongroom: Callable[..., Any], trust: Any):
    assert strongroom(*SIGN).code == 0
    assert strongroom(*VERIFY, *trust, "--json").error == "usage"


@pytest.mark.usefixtures("place")
def test_a_bundle_is_not_written_over_and_a_path_left_out_lies_below(strongroom: Callable[..., Any]):
    for path in ("../x", "/etc", "", "a//b"):
        assert strongroom(*SIGN, "--ignore", path, "--json").error == "usage"
    assert strongroom(*SIGN, "--ignore", "sub/").code == 0
    assert strongroom(*SIGN, "--json").error == "usage"
    Path("model/sub/b").unlink()
    assert strongroom(*VERIFY, "--signer", "key.pub").code == 0


@pytest.mark.usefixtures("place")
def test_certificates_that_expired_are_refused_now(strongroom: Callable[..., Any]):
    assert strongroom(*SIGN).code == 0
    assert strongroom(*VERIFY, "--root", "ca.pem", "--subject", "Anna", "--at", "2030-01-01", "--json").code == 1


def test_a_pin_is_asked_for_at_a_terminal_without_showing_it(monkeypatch: pytest.MonkeyPatch):
    asked = {}

    def prompt(text: str, **how: Any) -> str:
        asked.update(how, text=text)
        return "1234"

    monkeypatch.setattr(click, "prompt", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert ask_pin() == "1234"
    assert asked == {"text": "PIN of the token", "hide_input": True, "err": True}
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(UsageError):
        ask_pin()
