"""What the registers must hold after a log's events.

Knows: TPM2_PCR_Extend (TPM 2.0 Part 1, 17.2), TDG.MR.RTMR.EXTEND (Intel TDX Module ABI), the value from which PCR 0
starts by the locality of its reset (Platform Firmware Profile, 10.4.5.3), and that RTMRn is measurement register n+1 of
a CC log. Does not know: whether anything was quoted (`check`). Not covered: PCRs that are reset while the system runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog.codes import DIGEST_BYTES, hashed
from strongroom.tee.eventlog.tcg2 import Log, Style

STARTUP_LOCALITY = b"StartupLocality\0"
LOCALITIES = {0, 3, 4}
FIRST_DYNAMIC, LAST_DYNAMIC = 17, 22
"""PCRs of the dynamic root of trust: all ones until one is launched."""


def register_of(style: Style, index: int) -> int:
    """The register's own number: that of a PCR as it is, that of an RTMR one less; -1 is MRTD."""
    return index if style is Style.TPM else index - 1


def register_name(style: Style, register: int) -> str:
    """`pcr7`, `rtmr2`; `mrtd` for -1."""
    if style is Style.TPM:
        return f"pcr{register}"
    return f"rtmr{register}" if register >= 0 else "mrtd"


def reset_value(style: Style, register: int, bank: str) -> bytes:
    """What a register holds before its first event."""
    dynamic = style is Style.TPM and FIRST_DYNAMIC <= register <= LAST_DYNAMIC
    return (b"\xff" if dynamic else b"\0") * DIGEST_BYTES[bank]


def replay(log: Log, bank: str) -> Mapping[int, bytes]:
    """Register number (PCR n, RTMR n) -> what it holds after the log; only registers that have events.

    Raises `MalformedEvidence` if the log has no such bank, or a startup locality that cannot be.
    """
    if bank not in log.algorithms:
        raise MalformedEvidence(f"the event log has no {bank} digests, only {', '.join(log.algorithms)}")
    locality = startup_locality(log)
    extends = [(register_of(log.style, e.index), e.digest(bank)) for e in log.events if e.extended]
    start = {register: reset_value(log.style, register, bank) for register, _ in extends}
    if locality and 0 in start:
        start[0] = start[0][:-1] + bytes([locality])
    return fold(extends, start, bank)


def fold(extends: Iterable[tuple[int, bytes]], start: Mapping[int, bytes], bank: str) -> Mapping[int, bytes]:
    """Each register's value after its digests, from its value in `start`. Raises `MalformedEvidence`."""
    registers = dict(sorted(start.items()))
    for register, digest in extends:
        registers[register] = hashed(bank, registers[register] + digest)
    return registers


def startup_locality(log: Log) -> int:
    """The locality from which the TPM was started, 0 where the log says nothing.

    The event is not extended; that PCR 0 replays proves it. Raises `MalformedEvidence` if it is malformed, said twice,
    or said after PCR 0 was extended.
    """
    found: int | None = None
    begun = False
    for event in log.events:
        if event.extended:
            begun |= log.style is Style.TPM and event.index == 0
        elif event.data.startswith(STARTUP_LOCALITY):
            wrong = log.style is not Style.TPM or event.index != 0 or begun or found is not None
            if wrong or len(event.data) != len(STARTUP_LOCALITY) + 1 or event.data[-1] not in LOCALITIES:
                raise MalformedEvidence(f"event {event.number} is a startup locality that cannot be")
            found = event.data[-1]
    return found or 0
