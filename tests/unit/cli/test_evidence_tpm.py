"""A TPM at the command line: enrol it, collect from it, verify it by the note of its enrolment, or by its certificate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.crypto.signatures import generate_p256, private_to_pem, public_to_pem
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom_sim.tpm import Tpm, TpmMaker
from strongroom_sim.tpm_wire import TpmDevice

NONCE = "ab" * 32


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Tpm]:
    """A machine with a simulated TPM at `tmp_path`/machine, and the files of whoever enrols it."""
    now = int(time.time())
    tpm = Tpm(TpmMaker.generate(now=now), now)
    tpm.boot(b"image")
    enroller = generate_p256()
    (tmp_path / "root.pem").write_bytes(tpm.maker.root_pem)
    (tmp_path / "enroller.pem").write_bytes(private_to_pem(enroller))
    (tmp_path / "enroller.pub").write_bytes(public_to_pem(enroller.public_key()))
    (tmp_path / "maker.json").write_bytes(codec.encode(Collateral(tpm=tpm.ek_collateral(now))))
    (tmp_path / "ak.json").write_bytes(codec.encode(Collateral(tpm=tpm.ak_collateral(now))))
    stop = threading.Event()
    with TpmDevice(tpm, tmp_path / "machine") as device:
        thread = threading.Thread(target=device.serve, args=(stop.is_set,))
        thread.start()
        yield tpm
        stop.set()
        thread.join()


def enrol(strongroom: Callable[..., Any], place: Path, *more: str) -> Any:
    words = ("--identity", place / "enroller.pem", "--collateral", place / "maker.json", "--anchor", place / "root.pem")
    return strongroom(
        "evidence", "enrol", *words, "--tee-root", place / "machine", "-o", place / "note.json", *more, "--json"
    )


def collect(strongroom: Callable[..., Any], place: Path) -> Any:
    root = ("--tee-root", place / "machine")
    return strongroom("evidence", "collect", "--nonce", NONCE, *root, "-o", place / "quote.json", "--json")


@pytest.mark.usefixtures("machine")
def test_an_enrolled_tpm_is_verified_by_its_note(strongroom: Callable[..., Any], tmp_path: Path):
    assert enrol(strongroom, tmp_path).code == 0
    assert collect(strongroom, tmp_path).document["kind"] == "tpm"
    words = ("evidence", "verify", tmp_path / "quote.json", "--collateral", tmp_path / "note.json", "--nonce", NONCE)
    trusted = strongroom(*words, "--enroller", tmp_path / "enroller.pub", "--accept-simulated", "--json")
    assert (trusted.code, trusted.document["level"]) == (0, "simulated")
    assert trusted.document["claims"]["ak_source"] == "enrolment"
    stranger = strongroom(*words, "--accept-simulated", "--json")
    assert stranger.code == 1
    assert "tpm.ak.enrolment" in {c["id"] for c in stranger.document["checks"] if c["status"] == "fail"}


@pytest.mark.usefixtures("machine")
def test_a_certified_key_is_verified_by_its_certificate(strongroom: Callable[..., Any], tmp_path: Path):
    collect(strongroom, tmp_path)
    words = ("evidence", "verify", tmp_path / "quote.json", "--collateral", tmp_path / "ak.json", "--nonce", NONCE)
    ran = strongroom(*words, "--anchor", tmp_path / "root.pem", "--accept-simulated", "--json")
    assert (ran.code, ran.document["claims"]["ak_source"]) == (0, "certificate")
    other = strongroom(*words[:-1], "cd" * 32, "--anchor", tmp_path / "root.pem", "--accept-simulated", "--json")
    assert [c["id"] for c in other.document["checks"] if c["status"] == "fail"] == ["binding.report_data"]


@pytest.mark.usefixtures("machine")
def test_a_tpm_of_an_unknown_maker_is_not_enrolled(strongroom: Callable[..., Any], tmp_path: Path):
    words = ("--identity", tmp_path / "enroller.pem", "--collateral", tmp_path / "maker.json")
    ran = strongroom(
        "evidence", "enrol", *words, "--tee-root", tmp_path / "machine", "-o", tmp_path / "note.json", "--json"
    )
    assert (ran.code, ran.error) == (1, "signature.invalid")
    assert not (tmp_path / "note.json").exists()


def test_without_a_tpm_there_is_nothing_to_enrol(strongroom: Callable[..., Any], tmp_path: Path):
    (tmp_path / "enroller.pem").write_bytes(private_to_pem(generate_p256()))
    words = ("--identity", tmp_path / "enroller.pem", "--tee-root", tmp_path, "-o", tmp_path / "note.json", "--json")
    assert strongroom("evidence", "enrol", *words).code == 4
