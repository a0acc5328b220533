"""The steps of a launch, in their order, and how they are picked up again.

Knows: what has to be in hand before a state is entered, and what a crash may have left. Does not know: hypervisors (`drivers`), networks
(`attest`), terminals. Time, patience and who is told are given. Not covered: moving a machine to another host.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from strongroom.crypto.signatures import SigningKey
from strongroom.errors import FileUnreadable, LaunchFailed, LaunchGone, ServiceUnavailable, StrongroomError, UsageError
from strongroom.launch.doctor import Host, machine
from strongroom.launch.life import leavings, preflight, staging, wipe
from strongroom.launch.life.attest import Attest
from strongroom.launch.life.drivers import Driver
from strongroom.launch.life.files import destroy, durable
from strongroom.launch.life.journal import Journal, locked, read_entries
from strongroom.launch.life.states import CLIMB, RUNNING, above, reached
from strongroom.launch.measure import Expected, measure
from strongroom.launch.place import Place, check_place
from strongroom.launch.spec import read_images
from strongroom.records import codec
from strongroom.records.launch import LaunchSpec
from strongroom.records.launched import Entry, Plan, Running, State, Wiped, WipeDocument, WipeReceipt

PROVE_SECONDS, DRAIN_SECONDS = 300.0, 20.0
PAUSE_SECONDS = 0.5
LONGEST_SECONDS = 86400.0
OURS = (UsageError, FileUnreadable)
"""What is wrong on our own side says nothing of a machine that runs."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a launch stands: its newest entry, what was started, whether that still runs (None where nothing should)."""

    entries: tuple[Entry, ...]
    running: Running | None
    alive: bool | None

    @property
    def state(self) -> State | None:
        return self.entries[-1].state if self.entries else None


class Report(Protocol):
    """Who is told how it goes."""

    def begin(self, state: State) -> None:
        """What is done now leads to `state`."""

    def done(self, entry: Entry, seconds: float) -> None:
        """It was entered, after so many seconds."""


class Silent:
    """Nobody is told."""

    def begin(self, state: State) -> None:
        """See `Report`."""

    def done(self, entry: Entry, seconds: float) -> None:
        """See `Report`."""


@dataclass
class Launcher:
    """One machine. `place.images` is where the pinned files lie, `place.state` the launch's own folder; `key` signs wipe receipts.

    `attest` asks the machine and its broker, and is needed for what is above BOOTED; `revoke` ends a lease at the broker.
    `report` hears of every state with its seconds. `prove_seconds` is how long a quote is waited for, `drain_seconds` how long the
    guest may take to power off.
    """

    spec: LaunchSpec
    place: Place
    driver: Driver
    key: SigningKey
    attest: Attest | None = None
    revoke: wipe.Revoke | None = None
    host: Host = field(default_factory=lambda: machine(Path("/")))
    report: Report = field(default_factory=Silent)
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    prove_seconds: float = PROVE_SECONDS
    drain_seconds: float = DRAIN_SECONDS

    def __post_init__(self) -> None:
        if not all(0 <= seconds <= LONGEST_SECONDS for seconds in (self.prove_seconds, self.drain_seconds)):
            raise UsageError("a machine is waited for between no time and a day", remedy="Give seconds: 0 to 86400.")
        self._staged = staging.staged_place(self.spec, self.place)
        self._expected: Expected | None = None
        self._proved = False

    # The verbs

    def up(self, until: State = State.READY) -> Status:
        """Bring the machine up to `until`, from wherever an earlier launcher left it.

        What ended, failed or was half wiped is wiped first and started anew. Raises whatever a step raises, after it was written
        down as FAILED with its reason (but for what is wrong on our own side while the machine runs); `LaunchBusy` where another
        launcher is at work.
        """
        if until not in CLIMB:
            raise UsageError(f"a machine is not brought up to {until}")
        check_place(self.spec, self._staged)
        if reached(until, State.ATTESTED) and self.attest is None:
            raise UsageError(
                "nobody is there to ask the machine", remedy="Give the machine's address, a policy and the broker."
            )
        self._proved = False
        with self._journal() as journal:
            self._recover(journal)
            if not reached(journal.state, State.PREFLIGHT):
                journal.require_room()
            while not reached(journal.state, until):
                self._step(journal, above(journal.state))
            return self._status(journal)

    def reattest(self) -> Status:
        """Ask the machine that runs for new evidence, and its broker's verdict, now: READY is entered once more, or FAILED.

        The machine is left running however it ends. Raises what `up` raises; `LaunchGone` where it has ended; `UsageError` where none was
        started.
        """
        self._asked()
        _ = Journal(self._staged.state, self.spec.digest).head  # no folder is made where nothing was launched
        with self._journal() as journal:
            if journal.state not in RUNNING:
                raise UsageError(f"nothing runs: this launch is {journal.state}", remedy="Bring it up first.")
            journal.require_room()
            self._require_machine(journal)
            self._proved = False
            for state in (State.ATTESTED, State.READY):
                self._step(journal, state)
            return self._status(journal)

    def down(self) -> WipeDocument:
        """Destroy keys, machine and files, and return the signed receipt; the same one where it was all done before."""
        _ = Journal(self._staged.state, self.spec.digest).head  # no folder is made where nothing was launched
        with self._journal() as journal:
            if journal.head.state is State.WIPED:
                wipe.forget_notes(self._staged.state)
                return codec.decode(WipeDocument, journal.evidence(journal.head))
            return self._wipe(journal)

    def status(self) -> Status:
        """Where it stands; nothing is changed, and nobody is asked but the host's own processes."""
        return self._status(Journal(self._staged.state, self.spec.digest))

    # One step after the other

    def _step(self, journal: Journal, to: State) -> None:
        steps = {
            State.PREFLIGHT: self._preflight,
            State.PLANNED: self._plan,
            State.BOOTED: self._boot,
            State.ATTESTED: self._attest,
            State.READY: self._ready,
        }
        began = self.clock()
        self.report.begin(to)
        try:
            self._enter(journal, to, steps[to](journal), began)
        except StrongroomError as error:
            ours = journal.state in RUNNING and isinstance(error, OURS)
            if journal.state is not None and journal.state is not State.WIPED and not ours:
                document = {
                    "error": error.as_dict(),
                    **(self.attest.refused() if to in RUNNING and self.attest else {}),
                }
                self._enter(journal, State.FAILED, _json(document), began, reason=error.code)
            raise

    def _preflight(self, journal: Journal) -> bytes:
        del journal
        found = preflight.preflight(self.spec, self._staged, self.host)
        return _json(
            {"checks": preflight.document(found), "accelerator": self._staged.accelerator, "driver": self.driver.name}
        )

    def _plan(self, journal: Journal) -> bytes:
        del journal
        preflight.require_ready(preflight.preflight(self.spec, self._staged, self.host))
        self.driver.check(self.spec, self._staged)
        images = read_images(self.spec, self.place.images)
        expected = self._expected = measure(self.spec, images)
        if self.attest is not None:
            self.attest.check(self.spec, expected)
        files = staging.stage(self.spec, images, self.place, self._staged)
        return codec.encode(
            Plan(
                self.spec.name, self.spec.digest, self.spec.image, expected.kind, self.driver.name, self._staged.accelerator,
                dict(expected.registers), dict(expected.unknown), files, self._staged.gpus,
                {str(host): guest for host, guest in self._staged.ports.items()},
            )
        )  # fmt: skip

    def _boot(self, journal: Journal) -> bytes:
        plan = self._planned(journal)
        ports = {int(host): guest for host, guest in plan.ports.items()}
        if (ports, plan.gpus) != (dict(self._staged.ports), self._staged.gpus):
            raise UsageError(
                "this launch was planned with other ports or GPUs", remedy="Bring it up again: it starts anew."
            )
        staging.check_staged(self._staged, plan.files)
        staging.write_variables(self.spec, self._staged)
        for path in self.driver.remains(self.spec, self._staged):  # of a start that nobody wrote down
            destroy(Path(path), overwrite=True)
        return codec.encode(self.driver.start(self.spec, self._staged))

    def _attest(self, journal: Journal) -> bytes:
        attest, expected, running = self._asked(), self._computed(journal), self._running(journal)
        deadline = self.clock() + self.prove_seconds
        while True:
            try:
                proof = attest.prove(self.spec, expected)
            except ServiceUnavailable as error:
                silent = error
            else:
                self._proved = True
                return proof.evidence
            if running is None or not self.driver.alive(running):
                raise LaunchFailed("the machine ended before it proved anything", detail="no quote")
            if self.clock() >= deadline:
                raise LaunchFailed(f"the machine gave no quote: {silent.message}", detail="no quote")
            self.sleep(PAUSE_SECONDS)

    def _ready(self, journal: Journal) -> bytes:
        if not self._proved:  # by an earlier launcher: what it heard is no verdict of ours
            self._attest(journal)
        return self._asked().ready().evidence

    # What an earlier launcher left

    def _recover(self, journal: Journal) -> None:
        """Make the folder such that a step can follow: no strays, no dead machine that is believed to run."""
        state = journal.state
        stray = state in {State.PREFLIGHT, State.PLANNED} and self.driver.find(self.spec, self._staged) is not None
        if state in RUNNING:
            with contextlib.suppress(LaunchGone):
                self._require_machine(journal)
        if stray or journal.state in {State.FAILED, State.DRAINING}:
            self._wipe(journal)

    def _require_machine(self, journal: Journal) -> None:
        """Whether the machine that was started still runs; FAILED is entered where it does not. Raises `LaunchGone`."""
        running = self._running(journal)
        if running is None or not self.driver.alive(running):
            error = LaunchGone("the machine is gone")
            self._enter(journal, State.FAILED, _json({"error": error.as_dict()}), self.clock(), reason=error.code)
            raise error

    # Down

    def _wipe(self, journal: Journal) -> WipeDocument:
        began, state, leases = self.clock(), self._staged.state, leavings.leases(journal)
        self._proved = False
        if journal.state is not State.DRAINING:
            self.report.begin(State.DRAINING)
            self._enter(journal, State.DRAINING, _json({"leases": leases, "from": journal.state}), began)
        draining = journal.head
        self.report.begin(State.WIPED)
        progress = wipe.Progress(state, draining.number)
        wipe.keys(progress, leases, self.revoke)
        how = self.driver.drain(self.spec, self._staged, self.drain_seconds)
        if how != "not running" or not progress.has(wipe.GUEST):
            progress.note(Wiped(wipe.GUEST, self.driver.name, how, None, None, ""))
        wipe.files(progress, state, leavings.targets(self.spec, self._staged, self.driver))
        self.driver.forget(self.spec, self._staged)
        plan = _plan_of(journal)
        wipe.gpus(progress, self._staged.gpus if plan is None else plan.gpus)
        receipt = WipeReceipt(
            self.spec.name, self.spec.digest, self.driver.name, draining.digest, draining.time, max(draining.time, self._now()),
            progress.steps(), wipe.NOT_SHOWN,
        )  # fmt: skip
        document = wipe.sign(receipt, self.key)
        durable(state / f"wipe-{draining.number:06d}.json", codec.encode(document), mode=0o644)
        self._enter(journal, State.WIPED, codec.encode(document), began)
        wipe.forget_notes(state)
        return document

    # What is known

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal]:
        """The folder's lock, and its journal."""
        with locked(self._staged.state):
            staging.require_private(self._staged.state)
            journal = Journal(self._staged.state, self.spec.digest)
            leavings.require_own(journal)
            plan = _plan_of(journal)
            if plan is not None and plan.driver != self.driver.name and journal.state is not State.WIPED:
                remedy = f"Say --driver {plan.driver}, or take it down first."
                raise UsageError(f"this launch was planned for {plan.driver}", remedy=remedy)
            yield journal

    def _enter(self, journal: Journal, state: State, evidence: bytes, began: float, *, reason: str = "") -> None:
        entry = journal.enter(state, evidence, time=self._now(), reason=reason)
        self.report.done(entry, max(0.0, self.clock() - began))

    def _now(self) -> int:
        return int(self.clock() * 1000)

    def _asked(self) -> Attest:
        if self.attest is None:
            raise UsageError("nobody is there to ask the machine")
        return self.attest

    def _planned(self, journal: Journal) -> Plan:
        plan = _plan_of(journal)
        if plan is None:
            raise UsageError("nothing was planned")
        if plan.accelerator != self._staged.accelerator:
            raise UsageError(f"this launch was planned for {plan.accelerator}", remedy="Take it down first.")
        return plan

    def _running(self, journal: Journal) -> Running | None:
        entry = journal.last(State.BOOTED)
        return None if entry is None else codec.decode(Running, journal.evidence(entry))

    def _computed(self, journal: Journal) -> Expected:
        """What was expected before the boot; computed anew from the copies where an earlier launcher did it."""
        plan = self._planned(journal)
        if self._expected is None:
            self._expected = measure(self.spec, staging.read_staged(self.spec, self._staged))
        if dict(self._expected.registers) != dict(plan.registers):
            raise LaunchFailed("the registers are not those that were computed before the boot")
        return self._expected

    def _status(self, journal: Journal) -> Status:
        ending = journal.state in {State.DRAINING, State.FAILED}
        running = self._running(journal) if ending or journal.state in RUNNING else None
        if running is None and (ending or journal.state is State.PLANNED) and _plan_of(journal) is not None:
            # of a start that failed half-way, or that nobody wrote down
            running = self.driver.find(self.spec, self._staged)
        alive = None if running is None else self.driver.alive(running)
        return Status(journal.entries, running, alive)


def plan_of(folder: Path) -> Plan | None:
    """The plan of the launch that is under way in `folder`; None where there is none."""
    entries, _ = read_entries(folder)
    if not entries or entries[-1].state is State.WIPED:
        return None
    journal = Journal(folder, entries[-1].spec)
    return _plan_of(journal)


def _plan_of(journal: Journal) -> Plan | None:
    entry = journal.last(State.PLANNED)
    return None if entry is None else codec.decode(Plan, journal.evidence(entry))


def _json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()
