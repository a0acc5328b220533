"""Inside a realm: attestation tokens through configfs-tsm, whose provider is arm_cca_guest (Linux >= 6.13).

Knows: where the driver of realms shows, below a root directory that is an argument. Does not know: who made the files.
There is no fallback: without a realm every call ends in `DeviceUnavailable`. Not covered: extending REM registers, for
which Linux has no interface yet.
"""

from __future__ import annotations

from pathlib import Path

from strongroom.errors import DeviceUnavailable, UsageError
from strongroom.tee import configfs
from strongroom.tee.cca.parse import CHALLENGE_BYTES, MAX_TOKEN_BYTES, parse_token

DRIVER = Path("sys/module/arm_cca_guest")
PROVIDER = "arm_cca_guest"


def detect(root: Path = Path("/")) -> str | None:
    """The kind of TEE whose interfaces the kernel below `root` offers: `cca`, or None. Nothing stands in for it.

    Other TEEs have the same report interface, so it counts only beside the driver of realms.
    """
    return "cca" if (root / configfs.REPORTS).is_dir() and (root / DRIVER).is_dir() else None


class Collector:
    """The token interface of this realm. One report entry serves one request at a time; share it under a lock."""

    def __init__(self, root: Path = Path("/"), *, timeout: float = 30.0) -> None:
        """`root` is where the kernel's file systems are mounted; `timeout` bounds each wait, in seconds."""
        self._entry = configfs.ReportEntry(root, PROVIDER, timeout=timeout)

    def quote(self, report_data: bytes) -> bytes:
        """A token over a challenge of 64 bytes. Raises `DeviceUnavailable`."""
        if len(report_data) != CHALLENGE_BYTES:
            raise UsageError(f"a challenge of {len(report_data)} bytes where {CHALLENGE_BYTES} are needed")
        bound = lambda token: parse_token(token).realm.challenge  # noqa: E731 (what a token is over)
        return self._entry.report(report_data, limit=MAX_TOKEN_BYTES, bound=bound)[0]

    def extend(self, register: int, measurement: bytes) -> None:
        """Raises `DeviceUnavailable`: Linux has no interface for it yet."""
        raise DeviceUnavailable(f"register {register} cannot be extended by {len(measurement)} bytes in a realm yet")

    def log(self) -> bytes:
        """A realm has no firmware of its own that would log."""
        return b""
