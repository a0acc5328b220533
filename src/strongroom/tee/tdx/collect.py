"""Inside a TD: quotes through configfs-tsm (Linux >= 6.7), registers extended through tsm-mr (Linux >= 6.16).

Knows: the attributes of run-time registers (Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest) and where the
firmware's log is, below a root directory that is an argument. Does not know: who made the files; a simulated chip serves
the same ones in a directory of its own. There is no fallback: without a TDX device every call ends in
`DeviceUnavailable`.
"""

from __future__ import annotations

from pathlib import Path

from strongroom.errors import DeviceUnavailable, UsageError
from strongroom.tee import configfs
from strongroom.tee.tdx.parse import MAX_QUOTE_BYTES, parse_quote, trim

MEASUREMENTS = Path("sys/devices/virtual/misc/tdx_guest/measurements")
EVENT_LOG = Path("sys/firmware/acpi/tables/data/CCEL")
PROVIDER = "tdx_guest"

REPORT_DATA_BYTES = 64
MEASUREMENT_BYTES = 48
WRITABLE_REGISTERS = (2, 3)
MAX_LOG_BYTES = 1024 * 1024


def detect(root: Path = Path("/")) -> str | None:
    """The kind of TEE whose interfaces the kernel below `root` offers: `tdx`, or None. Nothing stands in for it."""
    return "tdx" if (root / configfs.REPORTS).is_dir() and (root / MEASUREMENTS).is_dir() else None


class Collector:
    """The TDX device of this machine. One report entry serves one request at a time; share it under a lock."""

    def __init__(self, root: Path = Path("/"), *, timeout: float = 30.0) -> None:
        """`root` is where the kernel's file systems are mounted; `timeout` bounds each wait, in seconds."""
        self._entry = configfs.ReportEntry(root, PROVIDER, timeout=timeout)
        self._measurements = root / MEASUREMENTS
        self._log = root / EVENT_LOG

    def quote(self, report_data: bytes) -> bytes:
        """A quote over `report_data` (64 bytes), without padding. Raises `DeviceUnavailable`."""
        if len(report_data) != REPORT_DATA_BYTES:
            raise UsageError(f"report data of {len(report_data)} bytes where {REPORT_DATA_BYTES} are needed")
        return trim(self._entry.report(report_data, limit=MAX_QUOTE_BYTES, bound=_report_data)[0])

    def extend(self, register: int, measurement: bytes) -> None:
        """Extend a run-time register (2 or 3) by `measurement` (48 bytes). Raises `DeviceUnavailable`."""
        if register not in WRITABLE_REGISTERS or len(measurement) != MEASUREMENT_BYTES:
            raise UsageError(f"register {register} cannot be extended by {len(measurement)} bytes")
        with configfs.device_errors(f"run-time register {register}"):
            configfs.write(self._measurements / f"rtmr{register}:sha384", measurement)

    def log(self) -> bytes:
        """The firmware's event log (CC event log of UEFI 2.10, section 38), empty where this machine has none.

        Raises `DeviceUnavailable` for one that cannot be read.
        """
        try:
            with self._log.open("rb") as file:
                content = file.read(MAX_LOG_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DeviceUnavailable(f"the event log cannot be read ({error.strerror})") from None
        if len(content) > MAX_LOG_BYTES:
            raise DeviceUnavailable(f"the event log exceeds {MAX_LOG_BYTES} bytes")
        return content


def _report_data(blob: bytes) -> bytes:
    """What a quote is over. Quoting services leave zeros behind it. Raises `MalformedEvidence`."""
    return parse_quote(trim(blob)).body.reportdata
