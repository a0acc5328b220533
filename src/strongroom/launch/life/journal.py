"""The journal of a launch: one line for each state that was entered, made durable before anything else is done.

Knows: the file `journal.jsonl` (canonical JSON, a line each, chained by digests), the files of evidence beside it, and the lock of the
folder. Does not know: what a state means. A last line that a power cut tore is dropped; anything else that does not hold together is
refused, and nobody goes on from it.
Not covered: who may write into the folder may write another journal; it is the launcher's memory and nobody's proof.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from strongroom.errors import FileUnreadable, LaunchBusy, MalformedJournal, MalformedRecord, UsageError
from strongroom.launch.life.files import durable, make_folder, sync_folder
from strongroom.launch.life.states import enter, follows
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.launched import Entry, State

NAME, EVIDENCE, LOCK = "journal.jsonl", "evidence", "lock"
MOST_BYTES = 16 * 1024 * 1024
FULL_BYTES = MOST_BYTES // 2
"""From here on nothing new is begun; what was begun can still be ended, many times over."""
MOST_EVIDENCE = 16 * 1024 * 1024


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a launch's folder alone; it is made where there is none. Raises `LaunchBusy`, `FileUnreadable`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise FileUnreadable(f"{folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LaunchBusy(f"another launcher works in {folder}") from None
        yield
    finally:
        os.close(descriptor)


class Journal:
    """What a launch has reached. `spec` is the digest that every entry must have."""

    def __init__(self, folder: Path, spec: Digest) -> None:
        """Read what is there; nothing is written. Raises `MalformedJournal`, `UsageError` for a folder of another launch."""
        self.folder, self.spec = folder, spec
        self.entries, self._good = read_entries(folder)
        if self.entries and self.entries[0].spec != spec:
            raise UsageError(
                f"{folder} is the folder of another launch specification",
                remedy="Choose another folder with --state, or give the specification that was launched there.",
            )

    @property
    def state(self) -> State | None:
        """The state now; None before the first."""
        return self.entries[-1].state if self.entries else None

    @property
    def head(self) -> Entry:
        """The newest entry. Raises `UsageError` where nothing was launched."""
        if not self.entries:
            raise UsageError(f"nothing was launched in {self.folder}", remedy="Start with `strongroom launch up SPEC`.")
        return self.entries[-1]

    def last(self, state: State) -> Entry | None:
        """The entry of `state` in this life, that is since the last `PREFLIGHT`; None where it was not reached."""
        for entry in reversed(self.entries):
            if entry.state is state:
                return entry
            if entry.state is State.PREFLIGHT:
                return None
        return None

    def require_room(self) -> None:
        """Whether something new may be begun in this folder. Raises `UsageError` well before the journal is too large to be read."""
        if self._good > FULL_BYTES:
            raise UsageError(
                f"the journal of {self.folder} is full after {len(self.entries)} entries",
                remedy="Take the machine down, and launch it in another folder (--state).",
            )

    def enter(self, state: State, evidence: bytes, *, time: int, reason: str = "") -> Entry:
        """Enter `state` with its evidence, durably: first the evidence, then the line. `time` in Unix milliseconds."""
        enter(self.state, state)
        before = self.entries[-1] if self.entries else None
        number, previous = (0, None) if before is None else (before.number + 1, before.digest)
        entry = Entry(number, previous, state, time, self.spec, digest_bytes(evidence), reason)
        place = self.folder / EVIDENCE
        make_folder(place)
        durable(place / _name(entry), evidence)
        self._append(codec.encode(entry) + b"\n")
        self.entries = (*self.entries, entry)
        return entry

    def evidence(self, entry: Entry) -> bytes:
        """The evidence of an entry. Raises `MalformedJournal` where it is gone or is another."""
        path = self.folder / EVIDENCE / _name(entry)
        try:
            with path.open("rb") as file:
                data = file.read(MOST_EVIDENCE)
        except OSError as error:
            raise MalformedJournal(f"{path}: {error.strerror}") from None
        if digest_bytes(data) != entry.evidence:
            raise MalformedJournal(f"{path} is not the evidence that the journal names")
        return data

    def _append(self, line: bytes) -> None:
        path = self.folder / NAME
        try:
            with path.open("ab") as file:
                file.truncate(self._good)  # a torn line ends here
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FileUnreadable(f"{path}: {error.strerror}") from None
        if self._good == 0:
            sync_folder(self.folder)
        self._good += len(line)


def read_entries(folder: Path) -> tuple[tuple[Entry, ...], int]:
    """All entries of the journal in `folder`, and how many bytes of it they are. Raises `MalformedJournal`."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return (), 0
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise MalformedJournal(f"{path} is larger than {MOST_BYTES} bytes")
    found: list[Entry] = []
    good = 0
    while (end := data.find(b"\n", good)) >= 0:
        line = data[good:end]
        if b"\0" in line and b"\n" not in data[end + 1 :]:
            break  # blocks that were allocated and never written
        found.append(_check(_parse(line, path), found[-1] if found else None, path))
        good = end + 1
    return tuple(found), good


def _parse(line: bytes, path: Path) -> Entry:
    try:
        entry = codec.decode(Entry, line)
    except MalformedRecord as error:
        raise MalformedJournal(f"{path} has a line that is no entry", detail=error.message) from None
    if codec.encode(entry) != line:
        raise MalformedJournal(f"{path} has a line that nobody wrote so")
    return entry


def _check(entry: Entry, before: Entry | None, path: Path) -> Entry:
    number, previous, state, spec = (
        (0, None, None, entry.spec) if before is None else (before.number + 1, before.digest, before.state, before.spec)
    )
    if (entry.number, entry.previous, entry.spec) != (number, previous, spec) or not follows(state, entry.state):
        raise MalformedJournal(f"{path} does not hold together at entry {number}")
    return entry


def _name(entry: Entry) -> str:
    return f"{entry.number:06d}-{entry.state}.json"
