"""How a story is told: numbered steps with their times, secrets that are planted, attacks that must be refused.

Knows: what makes a telling whole. Does not know: any story, or how a screen looks (`screen`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from strongroom.demo.attacks import Result
from strongroom.demo.canaries import Canary, Sighting


class Screen(Protocol):
    """Where the story is told."""

    def step(self, number: int, name: str) -> None: ...
    def fact(self, text: str) -> None: ...
    def done(self, seconds: float) -> None: ...
    def attack(self, result: Result) -> None: ...
    def end(self, told: Told) -> None: ...


@dataclass
class Told:
    """What the story showed; `ok` if all of it went as it must."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    attacks: list[Result] = field(default_factory=list)
    planted: int = 0
    found: list[Sighting] = field(default_factory=list)
    answer: str = ""

    @property
    def ok(self) -> bool:
        complete = bool(self.steps) and bool(self.attacks) and self.planted > 0
        return (
            complete
            and not self.found
            and all(step["ok"] for step in self.steps)
            and all(a.refused for a in self.attacks)
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "answer": self.answer,
            "attacks": [
                {"name": a.name, "refused": a.refused, "code": a.code, "named": list(a.named)} for a in self.attacks
            ],
            "canaries": {"planted": self.planted, "found": len(self.found)},
        }


class Teller:
    """One telling. `screen` sees it live; `told` is what remains."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.told = Told()
        self._canaries: list[Canary] = []

    @contextmanager
    def _step(self, name: str) -> Iterator[Callable[[str], None]]:
        began = time.monotonic()
        entry: dict[str, Any] = {"name": name, "ok": False, "seconds": 0.0}
        self.told.steps.append(entry)
        self._screen.step(len(self.told.steps), name)
        try:
            yield self._screen.fact
            entry["ok"] = True
        finally:
            entry["seconds"] = round(time.monotonic() - began, 2)
            self._screen.done(entry["seconds"])

    def _plant(self, place: str, secret: bytes) -> str:
        self._canaries.append(Canary(place, secret))
        self.told.planted = len(self._canaries)
        return secret.decode("ascii", "replace")

    def _record(self, result: Result) -> None:
        self.told.attacks.append(result)
        self._screen.attack(result)
