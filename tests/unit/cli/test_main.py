import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from strongroom.appraisal.gather import read_anchors
from strongroom.cli import main
from strongroom.errors import AddressInUse, MalformedEvidence
from strongroom.services.server import require_free


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with a defect."""

    @click.command("broken")
    def broken_command() -> None:
        raise RuntimeError("canary")

    module = ModuleType("strongroom.cli.broken")
    module.broken_command = broken_command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(main.COMMANDS, "broken", "broken")


@pytest.mark.usefixtures("broken")
def test_a_defect_is_one_clear_error_and_no_traceback(strongroom: Any):
    ran = strongroom("broken")
    assert ran.code == 4
    assert "unexpected: RuntimeError" in ran.err
    assert "strongroom.error" in ran.err
    assert "Traceback" not in ran.err
    assert "canary" not in ran.err


@pytest.mark.usefixtures("broken")
def test_who_looks_for_the_defect_sees_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STRONGROOM_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["strongroom", "broken"])
    with pytest.raises(RuntimeError):
        main.run()


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (("chat", "--polcy", "p"), "strongroom chat --help"),
        (("keys", "list", "--nothing"), "strongroom keys list --help"),
        (("nothing",), "strongroom --help"),
    ],
)
def test_a_typing_error_is_sent_to_the_page_of_its_command(strongroom: Any, words: tuple[str, ...], page: str):
    ran = strongroom(*words)
    assert ran.code == 2
    assert f"See `{page}`." in ran.err


def test_a_receipt_that_could_not_be_kept_is_not_asked_for(strongroom: Any, tmp_path: Path):
    kept = tmp_path / "receipt.json"
    kept.write_text("older")
    asked = ("chat", "http://127.0.0.1:9", "hello", "--policy", tmp_path / "none.toml")
    for option in ("--receipt", "--save-verification"):
        ran = strongroom(*asked, option, kept, "--json")
        assert (ran.code, ran.error) == (2, "usage")
        ran = strongroom(*asked, option, tmp_path / "nowhere" / "r.json", "--json")
        assert (ran.code, ran.error) == (3, "file.unreadable")
    assert kept.read_text() == "older"


def test_a_folder_for_receipts_that_cannot_be_made_is_no_defect(strongroom: Any, tmp_path: Path):
    (tmp_path / "file").write_text("")
    words = ("proxy", "http://127.0.0.1:9", "--policy", tmp_path / "none.toml", "--receipts", tmp_path / "file" / "r")
    ran = strongroom(*words, "--json")
    assert (ran.code, ran.error) == (3, "file.unreadable")


def test_a_root_that_is_no_certificate_is_called_so():
    with pytest.raises(MalformedEvidence, match="not one certificate in PEM") as refused:
        read_anchors(b"no certificate")
    assert "root.pem" in refused.value.remedy


def test_a_busy_port_is_seen_before_anything_is_measured():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AddressInUse):
        require_free("127.0.0.1", taken.getsockname()[1])
    require_free("127.0.0.1", 0)


@pytest.mark.parametrize("words", [(), ("keys",)])
def test_a_command_without_a_word_shows_its_page_and_nothing_else(strongroom: Any, words: tuple[str, ...]):
    ran = strongroom(*words)
    assert ran.code == 2
    assert ran.err.startswith("Usage: strongroom")
    assert "remedy" not in ran.err
