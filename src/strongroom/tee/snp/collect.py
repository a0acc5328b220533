"""Inside an SEV-SNP guest: reports through configfs-tsm (Linux >= 6.7), or through /dev/sev-guest where there is none.

Knows: two kernel interfaces (Documentation/ABI/testing/configfs-tsm-report and Documentation/virt/coco/sev-guest.rst), below
a root directory that is an argument. Does not know: who made the files. There is no fallback from a device that does not
answer: the second interface is used only where the first does not exist. Not covered: reports for another VMPL than the
kernel's own; run-time registers, which SEV-SNP does not have; certificates through /dev/sev-guest.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from strongroom.errors import DeviceUnavailable, MalformedEvidence, UsageError
from strongroom.records.evidence import AmdCollateral
from strongroom.tee import configfs
from strongroom.tee.snp.parse import REPORT_BYTES, VLEK, parse_report
from strongroom.tee.snp.table import MAX_TABLE_BYTES, parse_table

DEVICE = Path("dev/sev-guest")
PROVIDER = "sev_guest"

REPORT_DATA_BYTES = 64

# linux/sev-guest.h: SNP_GET_REPORT = _IOWR('S', 0, struct snp_guest_request_ioctl) with {version, request, response, error};
# the request is user data, VMPL and 28 zeros, the response 4000 bytes that hold MSG_REPORT_RSP (56860): status, size, 24
# reserved bytes, the report.
SNP_GET_REPORT = 0xC0205300
MESSAGE_VERSION = 1
REQUEST = struct.Struct("<64sI28x")
RESPONSE_BYTES = 4000
RESPONSE = struct.Struct("<II24x")

Ioctl = Callable[[int, int, bytearray], object]


def detect(root: Path = Path("/")) -> str | None:
    """The kind of TEE whose device the kernel below `root` offers: `snp`, or None. Nothing stands in for it."""
    return "snp" if (root / DEVICE).exists() else None


@dataclass(frozen=True, slots=True)
class Collected:
    """A report, and the host's own collateral for it, without a CRL; None where the host offered too little."""

    report: bytes
    collateral: AmdCollateral | None


class Collector:
    """The SEV-SNP device of this machine. One report entry serves one request at a time; share it under a lock."""

    def __init__(self, root: Path = Path("/"), *, timeout: float = 30.0, ioctl: Ioctl = fcntl.ioctl) -> None:
        """`root` is where the kernel's file systems are mounted; `timeout` bounds each wait, in seconds."""
        self._reports = root / configfs.REPORTS
        self._entry = configfs.ReportEntry(root, PROVIDER, timeout=timeout)
        self._device = root / DEVICE
        self._ioctl = ioctl

    def quote(self, report_data: bytes) -> bytes:
        """A report over `report_data` (64 bytes). Raises `DeviceUnavailable`."""
        return self._collect(report_data, table=False)[0]

    def collect(self, report_data: bytes) -> Collected:
        """A report over `report_data` (64 bytes) and what the host offers to verify it. Raises `DeviceUnavailable`."""
        report, table = self._collect(report_data, table=True)
        try:
            offered = parse_table(table)
        except MalformedEvidence as error:
            raise DeviceUnavailable(f"the host's certificate table cannot be read: {error.message}") from None
        return Collected(report, offered.collateral(vlek=parse_report(report).signing_key == VLEK))

    def _collect(self, report_data: bytes, *, table: bool) -> tuple[bytes, bytes]:
        if len(report_data) != REPORT_DATA_BYTES:
            raise UsageError(f"report data of {len(report_data)} bytes where {REPORT_DATA_BYTES} are needed")
        if self._reports.is_dir():
            auxiliary = MAX_TABLE_BYTES if table else 0
            return self._entry.report(report_data, limit=REPORT_BYTES, bound=_report_data, auxiliary=auxiliary)
        with configfs.device_errors("the report interface"):
            return _report(self._from_device(report_data), report_data), b""

    def extend(self, register: int, measurement: bytes) -> None:
        """Raises `DeviceUnavailable`: SEV-SNP has no registers that a guest extends."""
        raise DeviceUnavailable(f"SEV-SNP has no register {register} to extend by {len(measurement)} bytes")

    def log(self) -> bytes:
        """SEV-SNP measures at launch only, so there is no log."""
        return b""

    def _from_device(self, report_data: bytes) -> bytes:
        """The report by SNP_GET_REPORT, for VMPL 0."""
        request = ctypes.create_string_buffer(REQUEST.pack(report_data, 0), REQUEST.size)
        response = ctypes.create_string_buffer(RESPONSE_BYTES)
        argument = bytearray(
            struct.pack("<B7xQQQ", MESSAGE_VERSION, ctypes.addressof(request), ctypes.addressof(response), 0)
        )
        descriptor = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._ioctl(descriptor, SNP_GET_REPORT, argument)
        finally:
            os.close(descriptor)
        status, size = RESPONSE.unpack_from(response.raw)
        if status != 0 or size != REPORT_BYTES:
            raise DeviceUnavailable(f"the firmware gave no report (status {status}, {size} bytes)")
        return response.raw[RESPONSE.size : RESPONSE.size + size]


def _report_data(blob: bytes) -> bytes:
    """What a report is over. Raises `MalformedEvidence`."""
    return parse_report(blob).report_data


def _report(blob: bytes, report_data: bytes) -> bytes:
    """The report that a device gave, once it is one over our data."""
    try:
        found = parse_report(blob)
    except MalformedEvidence as error:
        raise DeviceUnavailable(f"the device gave no report: {error.message}") from None
    if found.report_data != report_data:
        raise DeviceUnavailable("the device gave a report over other data")
    return blob
