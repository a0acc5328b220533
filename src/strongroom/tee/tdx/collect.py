"""Inside a TD: quotes through configfs-tsm (Linux >= 6.7), registers extended through tsm-mr (Linux >= 6.16).

Knows: two kernel interfaces (Documentation/ABI/testing/configfs-tsm-report and sysfs-devices-virtual-misc-tdx_guest),
below a root directory that is an argument. Does not know: who made the files; a simulated chip serves the same ones
in a directory of its own. There is no fallback: without a TDX device every call ends in `DeviceUnavailable`. Waits
are bounded where the kernel lets us: reading `outblob` blocks inside the kernel until its own timeout.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from strongroom.errors import DeviceUnavailable, MalformedEvidence, UsageError
from strongroom.tee.tdx.parse import MAX_QUOTE_BYTES, parse_quote, trim

REPORTS = Path("sys/kernel/config/tsm/report")
MEASUREMENTS = Path("sys/devices/virtual/misc/tdx_guest/measurements")
PROVIDER = "tdx_guest"
ENTRY = "strongroom"

REPORT_DATA_BYTES = 64
MEASUREMENT_BYTES = 48
WRITABLE_REGISTERS = (2, 3)
ATTEMPTS = 3
MAX_ATTRIBUTE_BYTES = 4096


def detect(root: Path = Path("/")) -> str | None:
    """The kind of TEE whose interfaces the kernel below `root` offers: `tdx`, or None. Nothing stands in for it."""
    return "tdx" if (root / REPORTS).is_dir() and (root / MEASUREMENTS).is_dir() else None


class Collector:
    """The TDX device of this machine. One report entry serves one request at a time; share it under a lock."""

    def __init__(self, root: Path = Path("/"), *, timeout: float = 30.0) -> None:
        """`root` is where the kernel's file systems are mounted; `timeout` bounds each wait, in seconds."""
        self._entry = root / REPORTS / ENTRY
        self._measurements = root / MEASUREMENTS
        self._timeout = timeout

    def quote(self, report_data: bytes) -> bytes:
        """A quote over `report_data` (64 bytes), without padding. Raises `DeviceUnavailable`.

        The kernel counts changes of an entry; if anyone else used it meanwhile, or the quote is over other data, it
        is thrown away and asked for again, a few times.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise UsageError(f"report data of {len(report_data)} bytes where {REPORT_DATA_BYTES} are needed")
        with _device_errors("the report interface"):
            self._open_entry()
            for _ in range(ATTEMPTS):
                before = self._generation()
                self._write(self._entry / "inblob", report_data)
                blob = self._read(self._entry / "outblob", MAX_QUOTE_BYTES)
                if self._generation() != before + 1:
                    continue
                quote = _quote(blob)
                if parse_quote(quote).body.reportdata == report_data:
                    return quote
        raise DeviceUnavailable(
            "the device keeps giving quotes over other data: somebody else uses this report entry",
            remedy="Run one worker in one TD.",
        )

    def extend(self, register: int, measurement: bytes) -> None:
        """Extend a run-time register (2 or 3) by `measurement` (48 bytes). Raises `DeviceUnavailable`."""
        if register not in WRITABLE_REGISTERS or len(measurement) != MEASUREMENT_BYTES:
            raise UsageError(f"register {register} cannot be extended by {len(measurement)} bytes")
        with _device_errors(f"run-time register {register}"):
            self._write(self._measurements / f"rtmr{register}:sha384", measurement)

    def _open_entry(self) -> None:
        with suppress(FileExistsError):
            self._entry.mkdir()
        provider = self._read(self._entry / "provider", MAX_ATTRIBUTE_BYTES)
        if provider.strip() != PROVIDER.encode("ascii"):
            raise DeviceUnavailable("the report interface is not of a TDX guest")

    def _generation(self) -> int:
        text = self._read(self._entry / "generation", MAX_ATTRIBUTE_BYTES).strip()
        if not text.isdigit():
            raise DeviceUnavailable("the report interface does not count its generations")
        return int(text)

    def _write(self, path: Path, data: bytes) -> None:
        """One write of all of `data`; never waits."""
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.write(descriptor, data) != len(data):
                raise DeviceUnavailable("the device took a part of a write only")
        finally:
            os.close(descriptor)

    def _read(self, path: Path, limit: int) -> bytes:
        """All that can be read, at most `limit` bytes, within the timeout."""
        deadline = time.monotonic() + self._timeout
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            content = b""
            while len(content) <= limit:
                left = deadline - time.monotonic()
                if left <= 0 or not poller.poll(left * 1000):
                    raise DeviceUnavailable(f"the device did not answer within {self._timeout:g} seconds")
                piece = os.read(descriptor, limit + 1)
                if not piece:
                    return content
                content += piece
        finally:
            os.close(descriptor)
        raise DeviceUnavailable(f"the device gave more than {limit} bytes")


def _quote(blob: bytes) -> bytes:
    """The quote in a device's buffer, once it is one."""
    if not blob:
        raise DeviceUnavailable(
            "the device gave an empty quote", remedy="Check that the host offers a quote generation service to this TD."
        )
    try:
        quote = trim(blob)
        parse_quote(quote)
    except MalformedEvidence as error:
        raise DeviceUnavailable(f"the device gave no quote: {error.message}") from None
    return quote


@contextmanager
def _device_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeviceUnavailable(f"{what} cannot be used ({error.strerror or 'error'})", detail=what) from None
