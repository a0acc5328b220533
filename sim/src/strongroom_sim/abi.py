"""The kernel's interfaces to a TD, imitated with named pipes, so that the production collector runs unchanged.

    ROOT/sys/kernel/config/tsm/report/strongroom/{provider,generation}    files
                                                 {inblob,outblob}         pipes: 64 bytes in, one quote out
    ROOT/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384     pipe: 48 bytes extend the register

Knows: the semantics of configfs-tsm and tsm-mr that a guest sees. Does not know: what a quote is (`chip`). A guest
that dies at any moment leaves nothing behind: a quote nobody fetched is dropped when the next data arrives. A chip
that dies is seen at once, because nobody reads its pipes. Not covered: creating further entries by mkdir; reading
registers; a guest that starts to read in the microseconds between a dead one's last sign of life and the write of
that one's quote, which a pipe hands to the wrong reader (a collector asks again, see `tee.tdx.collect`).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from strongroom.errors import DeviceUnavailable
from strongroom_sim.chip import Chip

REPORTS = Path("sys/kernel/config/tsm/report")
MEASUREMENTS = Path("sys/devices/virtual/misc/tdx_guest/measurements")
ENTRY = "strongroom"
INBLOB_BYTES = 64
MEASUREMENT_BYTES = 48
RUNTIME_REGISTER = 3
PIPE_BYTES = 64 * 1024
POLL_SECONDS = 0.001
IDLE_SECONDS = 0.2


class Device:
    """A chip served below `root`. A context manager; `serve` runs until told to stop."""

    def __init__(self, chip: Chip, root: Path) -> None:
        """Lay out the files below `root`, which must not hold a device yet. Raises `DeviceUnavailable`."""
        self._chip = chip
        self._entry = root / REPORTS / ENTRY
        self._register = root / MEASUREMENTS / f"rtmr{RUNTIME_REGISTER}:sha384"
        self._generation = 0
        self._pending: bytes | None = None
        try:
            self._entry.mkdir(parents=True)
            self._register.parent.mkdir(parents=True)
            (self._entry / "provider").write_text("tdx_guest\n", "ascii")
            self._write_generation()
            for pipe in (self._entry / "inblob", self._entry / "outblob", self._register):
                os.mkfifo(pipe, 0o600)
            # Open for both directions: never an end of file, and a writer finds a reader as long as this process lives.
            self._inblob = os.open(self._entry / "inblob", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._extends = os.open(self._register, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileExistsError:
            raise DeviceUnavailable(
                f"a simulated chip was served below {root} before",
                remedy="A chip is one boot. Stop the old one and remove its folder, or name another with --root.",
            ) from None
        except OSError as error:
            raise DeviceUnavailable(
                f"no simulated chip can be served below {root} ({error.strerror})",
                remedy="Name a folder that can be made with --root.",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the pipes: from now on a guest is told that there is no device."""
        os.close(self._inblob)
        os.close(self._extends)

    def serve(self, stop: Callable[[], bool]) -> None:
        """Answer guests until `stop` says so; it is asked at least five times a second."""
        poller = select.poll()
        poller.register(self._inblob, select.POLLIN)
        poller.register(self._extends, select.POLLIN)
        while not stop():
            waiting = self._pending is not None
            poller.poll(1000 * (POLL_SECONDS if waiting else IDLE_SECONDS))
            self.step()

    def step(self) -> None:
        """One turn: take what guests wrote, then give the newest request's quote to whoever reads."""
        self._take()
        if self._pending is None:
            return
        try:
            outblob = os.open(self._entry / "outblob", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # nobody reads yet
        try:
            self._take()  # whoever reads wrote its request before, so it is here by now, also if an older one waited
            quote, over = b"", b""
            while over != self._pending:  # signing takes a while, in which a guest may die and another one ask
                over = self._pending
                quote = self._chip.quote(over)
                self._take()
            with suppress(BrokenPipeError, BlockingIOError):  # the guest died, or does not read: its request dies too
                os.write(outblob, quote)
        finally:
            os.close(outblob)
        self._pending = None

    def _take(self) -> None:
        """Take requests and measurements from the pipes."""
        requests = _waiting(self._inblob)
        measurements = _waiting(self._extends)  # written before the request, so measured before it
        if len(measurements) % MEASUREMENT_BYTES == 0:  # else one was torn, and a kernel takes whole ones only
            for start in range(0, len(measurements), MEASUREMENT_BYTES):
                self._chip.extend(RUNTIME_REGISTER, measurements[start : start + MEASUREMENT_BYTES])
        if len(requests) >= INBLOB_BYTES:  # the newest counts, as in the kernel; older ones only move the generation
            self._generation += len(requests) // INBLOB_BYTES
            self._pending = requests[-INBLOB_BYTES:]
            self._write_generation()

    def _write_generation(self) -> None:
        draft = self._entry / ".generation"
        draft.write_text(f"{self._generation}\n", "ascii")
        draft.replace(self._entry / "generation")


def stop_with_parent(told: Callable[[], bool]) -> Callable[[], bool]:
    """A stop for `serve`: when `told` says so, or when the process that started this one has ended."""
    parent = os.getppid()
    return lambda: told() or os.getppid() != parent


def _waiting(pipe: int) -> bytes:
    """All that waits in a pipe.

    A write of so few bytes is whole or absent, never mixed with another (POSIX PIPE_BUF).
    """
    try:
        return os.read(pipe, PIPE_BYTES)
    except BlockingIOError:
        return b""
