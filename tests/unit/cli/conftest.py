"""Commands run in this process, as a person would type them."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.main import run


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        return self.document["error"]["code"]


@pytest.fixture
def strongroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def act(*words: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["strongroom", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run()
        code = ended.value.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Ran(code if isinstance(code, int) else 1, captured.out, captured.err)

    return act
