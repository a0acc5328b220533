"""How the story looks in a terminal, and how it is silent.

Knows: rich. Does not know: the story.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from strongroom.demo.attacks import Result
    from strongroom.demo.telling import Told

RIVER = """\
owner            broker                     worker (in the TEE)    user
seal ─artifact─▶ registry ───ciphertext───▶ fetch
policy, keys ──▶ keep ◀─challenge/evidence─ prove                  verify
                 appraise ─▶ release ─key─▶ open ─▶ run ─▶ receipt ask
                    └─ every decision ─▶ log         answer ─────▶"""


class Terminal:
    """Numbered steps as they happen, then tables."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._console.print(
            Panel(Text(RIVER), title="strongroom", subtitle="SIMULATED TEE: protects nothing", style="cyan")
        )

    def step(self, number: int, name: str) -> None:
        self._console.print(f"\n[bold]{number}. {name}[/bold]")

    def fact(self, text: str) -> None:
        self._console.print(Text(f"   {text}"))

    def done(self, seconds: float) -> None:
        self._console.print(f"   [dim]{seconds:.1f} s[/dim]")

    def attack(self, result: Result) -> None:
        mark = Text("   refused ", "green") if result.refused else Text("   NOT REFUSED ", "bold red")
        self._console.print(mark + Text(f"{result.name}  ", "default") + Text(result.code, "dim"))

    def end(self, told: Told) -> None:
        table = Table(show_header=False, box=None)
        table.add_row("answer", told.answer.strip())
        table.add_row("attacks", f"{sum(a.refused for a in told.attacks)} of {len(told.attacks)} refused")
        table.add_row("canaries", f"{told.planted} planted, {len(told.found)} found outside the worker")
        table.add_row("time", f"{sum(step['seconds'] for step in told.steps):.1f} s")
        verdict = "all as it must be" if told.ok else "NOT as it must be"
        self._console.print()
        self._console.print(Panel(table, title=verdict, style="green" if told.ok else "red"))


class Silent:
    """For `--json`."""

    def step(self, number: int, name: str) -> None: ...
    def fact(self, text: str) -> None: ...
    def done(self, seconds: float) -> None: ...
    def attack(self, result: Result) -> None: ...
    def end(self, told: Told) -> None: ...
