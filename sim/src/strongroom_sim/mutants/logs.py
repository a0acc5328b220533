"""Mutants of event logs: one event, its digest, its place or the header changed; with registers that follow, or that do not.

Knows: TCG2 logs as the simulator writes them, and how registers are extended (TPM 2.0 Part 1, 17.2; Platform Firmware Profile,
10.4.5.3). Does not know: who quotes the registers. Whether Secure Boot is on is worked out here from digests alone: they are
what was measured, whatever the log calls it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from strongroom.tee.eventlog import codes
from strongroom.tee.eventlog.efi import EFI_GLOBAL, Variable, serialise_variable
from strongroom.tee.eventlog.tcg2 import Event, Log, SpecId, Style
from strongroom_sim.eventlog import renumbered, serialise
from strongroom_sim.mutants.explained import GROWING, alike
from strongroom_sim.mutants.mutant import TRIES, UNCHANGED, Base, Change, Mutant, other

UNMEASURED, UNCOMPARED, ABSENT = "log.unmeasured", "log.growing", "log.absent"
LEFT_OUT_IN = 50
STARTUP = b"StartupLocality\0"
DYNAMIC = range(17, 23)
POLICY = {Style.TPM: 7, Style.CCEL: 1}
"""Where Secure Boot is measured: PCR 7, measurement register 1."""
TYPES = tuple(codes.NAMES)


@dataclass(frozen=True, slots=True)
class Logged:
    """A log beside a quote: the good sample, how registers become a quote, and the claim of each register.

    `without` is what is claimed of Secure Boot where there is no log.
    """

    log: Log
    bank: str
    base: Base
    quote: Callable[[Mapping[int, bytes]], bytes]
    claims: Mapping[int, str]
    without: str | None = None


def change_log(chance: random.Random, logged: Logged) -> Mutant:
    """The log with one change; the quote is over the registers that it leads to, or over those of the good one."""
    good = logged.log
    if not chance.randrange(LEFT_OUT_IN):
        change = Change(b"", "log left out", {"secure_boot": logged.without}, free=ABSENT)
        return Mutant(logged.base, replace(logged.base.sample, log=b""), change)
    for _ in range(TRIES):
        where, log = _changed(chance, good)
        if log != good:
            break
    same, compared = alike(log, good, logged.bank), alike(log, good, logged.bank, _growing(good.style))
    data = serialise(log)
    if chance.randrange(2) or same:
        says = UNCHANGED if compared else None
        sample = replace(logged.base.sample, log=data)
        change = Change(data, f"log {where}", says, free=UNMEASURED if same else UNCOMPARED)
        return Mutant(logged.base, sample, change)
    registers = replayed(log, logged.bank)
    told = secure_boot(log, logged.bank)
    says = None if told is None else _registers(logged, registers) | {"secure_boot": told}
    sample = replace(logged.base.sample, log=data, quote=logged.quote(registers))
    return Mutant(logged.base, sample, Change(data, f"log {where}, quoted", says, free=UNCOMPARED))


def _growing(style: Style) -> tuple[int, ...]:
    return GROWING if style is Style.TPM else (4,)


def _registers(logged: Logged, registers: Mapping[int, bytes]) -> dict[str, str | int | None]:
    """The claims about registers, of which those without events hold what they did at power-on."""
    size = hashlib.new(logged.bank).digest_size
    return {
        claim: registers.get(register, power_on(logged.log.style, register, size)).hex()
        for register, claim in logged.claims.items()
    }


def power_on(style: Style, register: int, size: int) -> bytes:
    """What a register holds before its first event."""
    return (b"\xff" if style is Style.TPM and register in DYNAMIC else b"\0") * size


def replayed(log: Log, bank: str) -> dict[int, bytes]:
    """The registers that have events, after all of them. Those of a CCEL count from 1."""
    size = hashlib.new(bank).digest_size
    found: dict[int, bytes] = {}
    starts = [
        e.data[-1]
        for e in log.events
        if not e.extended and e.data.startswith(STARTUP) and len(e.data) == len(STARTUP) + 1
    ]
    for event in log.events:
        if event.extended:
            register = event.index if log.style is Style.TPM else event.index - 1
            start = power_on(log.style, register, size)
            if register == 0 and starts and log.style is Style.TPM:
                start = start[:-1] + bytes(starts[:1])
            found[register] = hashlib.new(bank, found.get(register, start) + event.digest(bank)).digest()
    return found


def secure_boot(log: Log, bank: str) -> str | None:
    """Whether Secure Boot was measured as on ("1") or off ("0"); None where it was measured as neither, or as both."""
    measured = {e.digest(bank) for e in log.events if e.extended and e.index == POLICY[log.style]}
    found = [
        str(value)
        for value in (0, 1)
        if hashlib.new(bank, serialise_variable(Variable(EFI_GLOBAL, "SecureBoot", bytes([value])))).digest()
        in measured
    ]
    return found[0] if len(found) == 1 else None


def _changed(chance: random.Random, log: Log) -> tuple[str, Log]:
    where, change = chance.choice(tuple(_WAYS.items()))
    events = list(log.events)
    at = chance.randrange(len(events))
    if where == "header":
        return where, replace(log, spec=_header(chance, log.spec))
    return where, renumbered(log, change(chance, log, events, at))


def _dropped(_: random.Random, __: Log, events: list[Event], at: int) -> list[Event]:
    return events[:at] + events[at + 1 :]


def _repeated(_: random.Random, __: Log, events: list[Event], at: int) -> list[Event]:
    return [*events[:at], events[at], *events[at:]]


def _moved(chance: random.Random, _: Log, events: list[Event], at: int) -> list[Event]:
    events.insert(chance.randrange(len(events)), events.pop(at))
    return events


def _with_no_action(chance: random.Random, log: Log, events: list[Event], at: int) -> list[Event]:
    added = Event(at, chance.choice([0, 1]), codes.NO_ACTION, _none(log), _no_action(chance))
    return [*events[:at], added, *events[at:]]


def _type(chance: random.Random, _: Log, events: list[Event], at: int) -> list[Event]:
    events[at] = replace(events[at], type=chance.choice([*TYPES, chance.randrange(1 << 32)]))
    return events


def _register(chance: random.Random, log: Log, events: list[Event], at: int) -> list[Event]:
    last = 23 if log.style is Style.TPM else 4
    events[at] = replace(events[at], index=chance.randrange(last + 2))
    return events


def _digest(chance: random.Random, _: Log, events: list[Event], at: int) -> list[Event]:
    digests = tuple((name, other(chance, digest)) for name, digest in events[at].digests)
    events[at] = replace(events[at], digests=digests)
    return events


def _other_data(chance: random.Random, _: Log, events: list[Event], at: int) -> list[Event]:
    events[at] = replace(events[at], data=_data(chance, events[at].data))
    return events


def _measured(chance: random.Random, _: Log, events: list[Event], at: int) -> list[Event]:
    """The event with other data, and the digest of that: a machine that measured something else."""
    event = events[at]
    data = _data(chance, event.data)
    if event.type == codes.EFI_VARIABLE_DRIVER_CONFIG and chance.randrange(2):
        data = serialise_variable(Variable(EFI_GLOBAL, "SecureBoot", bytes([chance.randrange(3)])))
    digests = tuple((name, hashlib.new(name, data).digest()) for name, _ in event.digests)
    events[at] = replace(event, data=data, digests=digests)
    return events


def _data(chance: random.Random, data: bytes) -> bytes:
    if not data:
        return chance.randbytes(4)
    match chance.randrange(4):
        case 0:
            return other(chance, data)
        case 1:
            return data[: chance.randrange(len(data))]
        case 2:
            return data + chance.randbytes(chance.randrange(1, 9))
        case _:
            at = chance.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _header(chance: random.Random, spec: SpecId) -> SpecId:
    match chance.randrange(3):
        case 0:
            return replace(spec, platform_class=chance.randrange(1, 1 << 32))
        case 1:
            return replace(spec, errata=chance.randrange(1, 256))
        case _:
            return replace(spec, vendor_info=chance.randbytes(chance.randrange(1, 256)))


def _no_action(chance: random.Random) -> bytes:
    return chance.choice(
        [
            STARTUP + bytes([chance.choice([0, 3, 4, 5])]),
            STARTUP,
            b"SP800-155 Event\0x",
            b"H-CRTM CompMeas\0",
            b"",
            b"x",
        ]
    )


def _none(log: Log) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, bytes(codes.DIGEST_BYTES[name])) for name in log.algorithms)


_WAYS: Mapping[str, Callable[[random.Random, Log, list[Event], int], list[Event]]] = {
    "dropped": _dropped,
    "repeated": _repeated,
    "moved": _moved,
    "header": lambda _, __, events, ___: events,
    "no action": _with_no_action,
    "type": _type,
    "register": _register,
    "digest": _digest,
    "data": _other_data,
    "measured data": _measured,
}
