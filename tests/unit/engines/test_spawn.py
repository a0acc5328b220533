import sys

import pytest

from strongroom.engines.spawn import ENVIRONMENT, spawn_child
from strongroom.errors import EngineUnavailable


def test_an_interpreter_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EngineUnavailable):
        spawn_child("fake_engine", "fake")


def test_no_variable_that_could_hold_a_secret_or_load_code_is_handed_on():
    assert not [name for name in ENVIRONMENT if name.startswith(("PYTHON", "STRONGROOM", "LD_PRELOAD", "HOME", "PATH"))]


def test_kill_reaps_and_may_be_called_twice():
    child = spawn_child("fake_engine", "fake")
    child.kill()
    child.kill()
    assert child.process.returncode is not None
    assert child.socket.fileno() == -1
