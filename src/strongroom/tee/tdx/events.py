"""The run-time register: what it must hold after the events that a worker names.

Knows: how a register is extended (Intel TDX Module ABI, TDG.MR.RTMR.EXTEND). Does not know: what an event means
(`appraisal`). Not covered: the firmware's event log (CCEL), which explains RTMR0 to RTMR2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from strongroom.records.evidence import Event

REGISTER_BYTES = 48


def extend(register: bytes, measurement: bytes) -> bytes:
    """The register's next value (48 bytes): SHA-384 over its value and the measurement."""
    return hashlib.sha384(register + measurement).digest()


def replay(events: Iterable[Event]) -> bytes:
    """The 48 bytes that RTMR3 holds after `events`, in their order, from zeros."""
    register = bytes(REGISTER_BYTES)
    for event in events:
        register = extend(register, event.measurement)
    return register
