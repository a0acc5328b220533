import sys
from types import ModuleType
from typing import Any

import click
import pytest

from strongroom.cli import main


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
