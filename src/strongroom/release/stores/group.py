"""Works that wait while one is being made durable share the next commit.

Knows: who leads a group, and how each of its callers learns what became of its own work. Does not know: databases. The first to wait
leads: once the group before is durable it takes all that wait by then, and is told to run them. No caller returns before its group
is durable. Not covered: fairness between groups; a group is bounded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_GROUP = 64


@dataclass(slots=True, eq=False)
class Waiting:
    """One caller's work, and what became of it once `done` is set: a result, or an error."""

    work: Callable[[Any], Any]
    result: Any = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Grouped:
    """Runs works through `commit`, which runs a group in one commit, sets each `result` or `error`, and raises if none is durable."""

    def __init__(self, commit: Callable[[Sequence[Waiting]], None]) -> None:
        self._commit = commit
        self._leading, self._queue = threading.Lock(), deque[Waiting]()

    def run(self, work: Callable[[Any], Any]) -> Any:
        """The result of `work`, once it is durable. Raises what `work` raised, or what the commit did."""
        own = Waiting(work)
        self._queue.append(own)
        with self._leading:
            while not own.done.is_set():
                self._lead()
        if own.error is not None:
            raise own.error
        return own.result

    def _lead(self) -> None:
        """One group of those that wait. Whoever leads and is not done is still among them."""
        group = [self._queue.popleft() for _ in range(min(MAX_GROUP, len(self._queue)))]
        try:
            self._commit(group)
        except BaseException as error:  # noqa: BLE001 (each caller raises it)
            for waiting in group:
                waiting.error = error
        for waiting in group:
            waiting.done.set()
