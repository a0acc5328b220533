"""How a launch looks while it goes on: on a terminal (Rich where it is installed), as lines of text, or as lines of JSON.

Knows: terminals. Does not know: a launch.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from strongroom.records.launched import Entry, State

if TYPE_CHECKING:
    from rich.status import Status

DOING = {
    State.PREFLIGHT: "looking at the host",
    State.PLANNED: "copying and measuring the image",
    State.BOOTED: "starting the machine",
    State.ATTESTED: "waiting for its evidence",
    State.READY: "checking the broker's verdict",
    State.DRAINING: "ending its keys",
    State.WIPED: "ending the machine, wiping what it leaves",
    State.FAILED: "failing",
}


class Lines:
    """One JSON document a line, for programs."""

    def begin(self, state: State) -> None:
        """Nothing is printed before a state is entered."""

    def done(self, entry: Entry, seconds: float) -> None:
        """One line for each state that was entered."""
        line: dict[str, Any] = {"state": entry.state.value, "seconds": round(seconds, 3), "time": entry.time}
        line |= {"evidence": entry.evidence, **({"reason": entry.reason} if entry.reason else {})}
        click.echo(json.dumps(line))


class Screen:
    """A line for each state, and what is being done now where it can be taken back."""

    def __init__(self) -> None:
        self._status: Status | None = None
        try:
            from rich.console import Console
        except ImportError:
            self._console = None
        else:
            self._console = Console(highlight=False, stderr=True) if sys.stderr.isatty() else None

    def begin(self, state: State) -> None:
        """Show what is done now."""
        self.end()
        if self._console is not None:
            self._status = self._console.status(f"{DOING[state]} …")
            self._status.start()

    def done(self, entry: Entry, seconds: float) -> None:
        """One line for each state that was entered."""
        self.end()
        mark = "✗" if entry.state is State.FAILED else "✓"
        note = entry.reason or f"evidence {entry.evidence[:19]}…"
        click.echo(f"  {mark} {entry.state.value:<9} {seconds:8.2f} s  {note}")

    def end(self) -> None:
        """Take back what is not done any more."""
        if self._status is not None:
            self._status.stop()
            self._status = None
