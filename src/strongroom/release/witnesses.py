"""The broker's side of witnesses: each new state of its log is sent to them (C2SP tlog-witness v1.0.0), and they sign it.

Knows: rounds. A round takes the newest durable checkpoint and asks all witnesses at once; whoever waits for a leaf gets a
proof under the first checkpoint that holds it and that enough of them signed. Does not know: why a leaf was written, or the
wire (`witness_client`). What a witness answers is checked before it counts; one that is down, slow or lies costs its own
signature and, where a policy demands just that one, time: a round waits for it as long as somebody does.
At the start the log is compared with the newest state that the witnesses saw. So many must answer that every state which
enough of them signed is known to one that answers: then an old backup, or a log that went on elsewhere, is refused.
Not covered: a witness that claims more than it saw keeps a broker from starting (the error names it); a fork that is
noticed while the broker runs costs that witness's signature, and is logged.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from strongroom.errors import LogInvalid, LogSetBack, StrongroomError, Unavailable, UsageError, WitnessesUnavailable
from strongroom.receipts.cosignature import Quorum
from strongroom.records.release import LogProof
from strongroom.release.log import Log
from strongroom.release.stores.port import Store
from strongroom.release.witness_client import Conflict, Seat, WitnessLink

log = logging.getLogger("strongroom.witnesses")

WAIT_SECONDS = 10.0
IDLE_SECONDS = 1.0
MAX_STEPS = 3


@dataclass(slots=True)
class _Round:
    """One checkpoint on its way: what came for it, by the witness's name. All but `text` and `size` under the lock."""

    text: str
    size: int
    lines: dict[str, str] = field(default_factory=dict)
    errors: dict[str, StrongroomError] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)

    @property
    def cosigned(self) -> str:
        return self.text + "".join(self.lines.values())


@dataclass(slots=True, eq=False)
class _Waiter:
    """Whoever waits for a state of more than `index` entries, signed by so many of each group of names. Under the lock."""

    index: int
    groups: tuple[tuple[int, frozenset[str]], ...]
    found: tuple[str, int] | None = None

    def is_met_by(self, names: Collection[str]) -> bool:
        return all(len(group.intersection(names)) >= least for least, group in self.groups)

    def look_at(self, current: _Round | None) -> None:
        if self.found is None and current is not None and current.size > self.index and self.is_met_by(current.lines):
            self.found = current.cosigned, current.size


class Witnesses:
    """The witnesses at `seats`, of whom `least` must sign before an answer leaves; 0 tells them and waits for none.

    `link` connects to a seat; `wait_seconds` bounds every wait. Nothing runs before `start`. Raises `UsageError`.
    """

    def __init__(
        self,
        seats: Sequence[Seat],
        least: int,
        *,
        log: Log,
        store: Store,
        link: Callable[[Seat], WitnessLink] = WitnessLink,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        if least < 0:
            raise UsageError("the number of witnesses that must sign is not negative")
        self._quorum = Quorum(max(least, 1), tuple(seat.witness for seat in seats))
        self._least, self._seconds = least, wait_seconds
        self._log, self._store = log, store
        self._links = {seat.witness.name: link(seat) for seat in seats}
        self._known: dict[str, int] = {}  # the size that each holds, as far as we know
        self._changed = threading.Condition()
        self._asking: set[str] = set()
        self._begun = self._ended = 0  # rounds, one after the other
        self._wanted = self._closing = self._failing = False
        self._newest: _Round | None = None  # that enough witnesses signed
        self._waiters: list[_Waiter] = []
        self._failed: set[str] = set()  # whose last answer was none
        self._kept = ""
        self._thread = threading.Thread(target=self._run, name="strongroom-witnesses", daemon=True)

    def start(self) -> None:
        """Compare the log with what the witnesses saw, then begin.

        Raises `LogSetBack` where one of them saw a longer log or another one, `WitnessesUnavailable` where too few answer.
        """
        opening = self._next_round()
        self._known = dict.fromkeys(self._links, opening.size)
        self._ask_all(opening, lambda names: len(names) == len(self._links))
        with self._changed:
            errors, answered = dict(opening.errors), len(opening.lines)
        for error in errors.values():
            if isinstance(error, LogSetBack):
                raise error
        least = self._quorum.least
        needed = max(least, len(self._links) - least + 1)
        if answered < needed:
            raise WitnessesUnavailable(
                f"{answered} witnesses vouch for this log, and {needed} must before a broker starts",
                detail=", ".join(sorted(set(self._links) - set(opening.lines))),
                remedy="Start the witnesses that are named here; until they answer, nobody knows that this log is the newest.",
            )
        self._keep()
        self._thread.start()

    def close(self) -> None:
        """End. Whoever still waits is told that there are no signatures."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for link in self._links.values():
            link.close()

    def can_meet(self, demand: Quorum) -> bool:
        """Whether so many of a demand's witnesses are among these, by name and key."""
        return len(self._named(demand)) >= demand.least

    def check_ready(self, demands: Sequence[Quorum] = ()) -> None:
        """Return if the last round had signatures enough, for the broker and for `demands`, or one that is held now has.

        So nothing is decided that could not be answered, but for what is under way when witnesses begin to fail. Raises
        `WitnessesUnavailable`.
        """
        waiter = self._waiter(-1, demands)
        with self._changed:
            if not self._lacks(waiter):
                return
            self._wait_for_round(waiter, lambda: False)
            if self._lacks(waiter):
                raise self._too_few(demands)

    def settle(self, proof: LogProof, demands: Sequence[Quorum] = ()) -> LogProof:
        """The same leaf under a checkpoint that enough witnesses signed; where none is demanded, `proof` at once.

        `demands` are those of policies, beside the broker's own. Call it once the leaf is durable. Waits for one whole round at
        most. Raises `WitnessesUnavailable`: then the leaf stands in the log all the same, and whoever asks again may get the proof.
        """
        waiter = self._waiter(proof.index, demands)
        with self._changed:
            if not waiter.groups:
                self._wanted = True
                self._changed.notify_all()
                return proof
            waiter.look_at(self._newest)
            if waiter.found is None:
                self._wait_for_round(waiter, lambda: waiter.found is not None)
            if waiter.found is None:
                raise self._too_few(demands)
            text, size = waiter.found
        return dataclasses.replace(proof, path=self._log.inclusion_path(proof.index, size), checkpoint=text)

    def newest(self) -> str | None:
        """The newest state that enough witnesses signed, with the signatures of all who answer within one round; None of none."""
        _, size = self._log.newest(self._store)
        with self._changed:
            healthy = frozenset(self._links.keys() - self._failed)
            waiter = _Waiter(size - 1, ((len(healthy), healthy),))
            waiter.look_at(self._newest)
            if waiter.found is None:
                self._wait_for_round(waiter, lambda: waiter.found is not None)
            return self._newest.cosigned if self._newest is not None else None

    def _waiter(self, index: int, demands: Sequence[Quorum]) -> _Waiter:
        own = ((self._least, frozenset(self._links)),) if self._least else ()
        return _Waiter(index, (*own, *((demand.least, self._named(demand)) for demand in demands)))

    def _named(self, demand: Quorum) -> frozenset[str]:
        """Those of a demand's witnesses that are asked here."""
        return frozenset(witness.name for witness in demand.witnesses if witness in self._quorum.witnesses)

    def _lacks(self, waiter: _Waiter) -> bool:
        """Whether the broker's own demand failed in the last round, or one that waits by who last failed to answer."""
        return bool(self._least and self._failing) or not waiter.is_met_by(self._links.keys() - self._failed)

    def _wait_for_round(self, waiter: _Waiter, done: Callable[[], bool]) -> None:
        """Until `done`, or the end of a round that begins from now on, and asks for what `waiter` needs; under the lock."""
        self._waiters.append(waiter)
        own = self._begun + 1  # a round that began before may have taken an older checkpoint
        self._wanted = True
        self._changed.notify_all()
        try:
            self._changed.wait_for(lambda: done() or self._closing or self._ended >= own, self._seconds)
        finally:
            self._waiters.remove(waiter)

    def _too_few(self, demands: Sequence[Quorum]) -> WitnessesUnavailable:
        least = max([self._least, *(demand.least for demand in demands)])
        return WitnessesUnavailable(
            f"fewer than {least} of the demanded witnesses signed the log in time", detail="log.witnesses"
        )

    def _is_enough(self, names: Collection[str]) -> bool:
        """For the broker, and for all who wait now; under the lock."""
        return len(names) >= self._quorum.least and all(
            waiter.found is not None or waiter.is_met_by(names) for waiter in self._waiters
        )

    def _run(self) -> None:
        """One round after the other: when somebody waits, and now and then for leaves that nobody waits for."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closing, IDLE_SECONDS)
                if self._closing:
                    return
                self._wanted = False
                self._begun += 1
            failing = True
            try:
                current = self._next_round()
                self._ask_all(current, self._is_enough)
                with self._changed:
                    failing = len(current.lines) < self._quorum.least
            except Unavailable as error:  # of the store: nothing can be asked now
                log.warning("no round code=%s", error.code)
            with self._changed:
                self._ended, self._failing = self._begun, failing
                self._changed.notify_all()
            self._keep()

    def _next_round(self) -> _Round:
        """The newest durable checkpoint, with the lines that are there for it already."""
        text, size = self._log.newest(self._store)
        with self._changed:
            if self._newest is not None and self._newest.text == text:
                return self._newest
        return _Round(text, size)

    def _ask_all(self, current: _Round, enough: Callable[[Collection[str]], bool]) -> None:
        """Ask whoever has not signed and is not being asked; return when `enough` signed, all answered, or time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or enough(self._free(current)), self._seconds)
            names = [name for name in self._free(current) if name not in current.lines]
            self._asking.update(names)
            current.pending.update(names)
        for name in names:
            threading.Thread(target=self._ask, args=(name, current), daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._closing or enough(current.lines) or not current.pending, self._seconds)

    def _free(self, current: _Round) -> list[str]:
        """Who has signed, or can be asked; one that is slow is not asked twice at once."""
        return [name for name in self._links if name in current.lines or name not in self._asking]

    def _ask(self, name: str, current: _Round) -> None:
        line, error = "", None
        try:
            line = self._obtain(name, current)
        except StrongroomError as found:
            error = found
            log.warning("no cosignature witness=%s code=%s", name, found.code)
        finally:
            with self._changed:
                self._asking.discard(name)
                current.pending.discard(name)
                if line:
                    current.lines[name] = line
                    self._failed.discard(name)
                else:
                    self._failed.add(name)
                if error is not None:
                    current.errors[name] = error
                for waiter in self._waiters:
                    waiter.look_at(current)
                newer = self._newest is None or current.size >= self._newest.size
                if newer and len(current.lines) >= self._quorum.least:
                    self._newest = current
                self._changed.notify_all()

    def _obtain(self, name: str, current: _Round) -> str:
        """The line of one witness, from whatever size it holds. Raises `LogSetBack`, and as `WitnessLink.ask` does."""
        for _ in range(MAX_STEPS):
            old = min(self._known[name], current.size)
            answer = self._links[name].ask(old, self._log.consistency_path(old, current.size), current.text)
            if isinstance(answer, str):
                self._known[name] = current.size
                return answer
            _check_conflict(name, answer, old=old, size=current.size)
            self._known[name] = answer.size
        raise LogInvalid("the witness names another size each time", detail=name)

    def _keep(self) -> None:
        """Keep the newest cosigned checkpoint beside the log, for whoever reads it there."""
        with self._changed:
            text = self._newest.cosigned if self._newest is not None else ""
        if text == self._kept:
            return
        try:
            self._store.write(lambda transaction: transaction.keep_cosigned(text))
            self._kept = text
        except Unavailable as error:
            log.warning("not kept code=%s", error.code)


def _check_conflict(name: str, conflict: Conflict, *, old: int, size: int) -> None:
    """Return if the answer only says that the witness is behind. Raises `LogSetBack`, `LogInvalid`."""
    if conflict.size > size:
        raise LogSetBack(f"a witness saw {conflict.size} entries of this log, which has {size}", detail=name)
    if conflict.size == old == size:
        raise LogSetBack(f"a witness saw another log of this name with {size} entries", detail=name)
    if conflict.size == old:
        raise LogInvalid("the witness holds the size that was named, and refuses it", detail=name)
