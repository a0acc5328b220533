"""Simulation is never a shortcut: it says what it is, and does not run beside a real TEE.

Knows: where real TEE devices show. Does not know: what is simulated.
"""

from __future__ import annotations

from pathlib import Path

from strongroom.errors import Refused

WARNING = "strongroom-sim: this is a SIMULATED TEE. It protects nothing: whoever runs this machine can read everything."

_REAL_DEVICES = ("dev/tdx_guest", "dev/sev-guest", "sys/kernel/config/tsm/report", "sys/devices/virtual/misc/tdx_guest")


def refuse_beside_real_tee(host: Path = Path("/")) -> None:
    """Return if no real TEE shows below `host`. Raises `Refused`."""
    for device in _REAL_DEVICES:
        if (host / device).exists():
            raise Refused(
                f"a simulated TEE is refused beside a real one (/{device})",
                remedy="Use the real TEE of this machine, or simulate on another machine.",
            )
