"""configfs-tsm: how Linux hands out reports and quotes, the same for every TEE that runs as a guest (Linux >= 6.7).

Knows: the entry and its attributes (Documentation/ABI/testing/configfs-tsm-report), below a root directory that is an
argument. Does not know: what a report is; the kind says which provider it is of and what a report is over. There is no
fallback: without the interface every call ends in `DeviceUnavailable`. Waits are bounded where the kernel lets us:
reading `outblob` blocks inside the kernel until its own timeout.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from strongroom.errors import DeviceUnavailable, MalformedEvidence

REPORTS = Path("sys/kernel/config/tsm/report")
ENTRY = "strongroom"
ATTEMPTS = 3
MAX_ATTRIBUTE_BYTES = 4096


class ReportEntry:
    """One report entry of this machine. It serves one request at a time; share it under a lock."""

    def __init__(self, root: Path, provider: str, *, timeout: float) -> None:
        """`root` is where the kernel's file systems are mounted; `timeout` bounds each wait, in seconds."""
        self._entry = root / REPORTS / ENTRY
        self._provider = provider
        self._timeout = timeout

    def report(
        self, report_data: bytes, *, limit: int, bound: Callable[[bytes], bytes], auxiliary: int = 0
    ) -> tuple[bytes, bytes]:
        """A report over `report_data`, at most `limit` bytes, and what the host says besides (`auxiliary` bytes at most).

        `bound` reads what a report is over, and raises `MalformedEvidence` for what is none. The kernel counts changes
        of an entry; if anyone else used it meanwhile, or the report is over other data, it is thrown away and asked for
        again, a few times. Raises `DeviceUnavailable`.
        """
        with device_errors("the report interface"):
            self._open()
            for _ in range(ATTEMPTS):
                before = self._generation()
                write(self._entry / "inblob", report_data)
                blob = read(self._entry / "outblob", limit, self._timeout)
                besides = read(self._entry / "auxblob", auxiliary, self._timeout) if auxiliary else b""
                if self._generation() == before + 1 and _bound(blob, bound) == report_data:
                    return blob, besides
        raise DeviceUnavailable(
            "the device keeps giving reports over other data: somebody else uses this report entry",
            remedy="Run one worker in one machine.",
        )

    def _open(self) -> None:
        with suppress(FileExistsError):
            self._entry.mkdir()
        provider = read(self._entry / "provider", MAX_ATTRIBUTE_BYTES, self._timeout)
        if provider.strip() != self._provider.encode("ascii"):
            raise DeviceUnavailable(f"the report interface is not of {self._provider}")

    def _generation(self) -> int:
        text = read(self._entry / "generation", MAX_ATTRIBUTE_BYTES, self._timeout).strip()
        if not text.isdigit():
            raise DeviceUnavailable("the report interface does not count its generations")
        return int(text)


def write(path: Path, data: bytes) -> None:
    """One write of all of `data`; never waits. Raises `OSError` or `DeviceUnavailable`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.write(descriptor, data) != len(data):
            raise DeviceUnavailable("the device took a part of a write only")
    finally:
        os.close(descriptor)


def read(path: Path, limit: int, timeout: float) -> bytes:
    """All that can be read, at most `limit` bytes, within `timeout` seconds. Raises `OSError` or `DeviceUnavailable`."""
    deadline = time.monotonic() + timeout
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        content = b""
        while len(content) <= limit:
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                raise DeviceUnavailable(f"the device did not answer within {timeout:g} seconds")
            piece = os.read(descriptor, limit + 1)
            if not piece:
                return content
            content += piece
    finally:
        os.close(descriptor)
    raise DeviceUnavailable(f"the device gave more than {limit} bytes")


@contextmanager
def device_errors(what: str) -> Iterator[None]:
    """The operating system's errors as `DeviceUnavailable`."""
    try:
        yield
    except OSError as error:
        raise DeviceUnavailable(f"{what} cannot be used ({error.strerror or 'error'})", detail=what) from None


def _bound(blob: bytes, bound: Callable[[bytes], bytes]) -> bytes:
    if not blob:
        raise DeviceUnavailable(
            "the device gave an empty report", remedy="Check that the host offers an attestation service to this guest."
        )
    try:
        return bound(blob)
    except MalformedEvidence as error:
        raise DeviceUnavailable(f"the device gave no report: {error.message}") from None
