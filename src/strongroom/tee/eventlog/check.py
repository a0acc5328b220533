"""The four checks of an event log, for every kind that has one.

    <prefix>.log.parse      the log is in the form of the specification, whole and nothing else
    <prefix>.log.replay     its digests replay to the registers that the hardware signed, each and all of them
    <prefix>.log.digests    every digest that can be computed again from its event is right
    <prefix>.log.events     every event is understood and where it must be: facts

Knows: that a log proves nothing of a register that was not quoted, and that a quoted register which the log does not
explain is a doubt. Does not know: who quoted the registers (the kind; its signature check is among `needs`), what is
wanted of the facts (`appraisal`). The kind chooses the registers: it leaves out those that others extend (PCR 10 by IMA,
RTMR3 by a worker's own events) only where it explains them otherwise. A check that needs an earlier one is not-run.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from strongroom.tee.eventlog.cel import Container, check_digests, interpret_cel, parse_cel, replay_cel
from strongroom.tee.eventlog.codes import BANKS
from strongroom.tee.eventlog.digests import Judgement, Standing, judge
from strongroom.tee.eventlog.interpret import Facts, interpret
from strongroom.tee.eventlog.replay import register_name, replay, reset_value
from strongroom.tee.eventlog.tcg2 import Log, Style, parse_log
from strongroom.tee.steps import Outcome, Steps, require


def check_log(
    prefix: str,
    log_bytes: bytes,
    registers: Mapping[int, bytes],
    bank: str,
    style: Style,
    steps: Steps,
    *needs: Outcome[Any],
    growing: Collection[int] = (),
) -> Outcome[Facts]:
    """Check a TCG2 log against `registers` (PCR or RTMR number -> quoted value in `bank`), adding the checks to `steps`.

    Never raises. `needs` are the steps that vouch for the registers' values. `growing` are registers that others extend
    after the log has ended: what it says of them cannot be compared, and no fact may rest on it alone.
    """
    log = steps.run(f"{prefix}.log.parse", lambda: parse_log(log_bytes, style), describe=_describe_log)

    bound = steps.run(
        f"{prefix}.log.replay",
        lambda: _compare(replay(log.value, _admitted(bank)), registers, bank, style, growing),
        log,
        *needs,
        describe=_names(style),
    )
    right = steps.run(f"{prefix}.log.digests", lambda: _digests(log.value, bank), bound, describe=_describe_standings)
    return steps.run(f"{prefix}.log.events", lambda: interpret(log.value, bank), right, describe=_describe_facts)


def check_cel(
    prefix: str,
    log_bytes: bytes,
    registers: Mapping[int, bytes],
    bank: str,
    steps: Steps,
    *needs: Outcome[Any],
) -> Outcome[Container]:
    """The same four checks of a canonical event log, as `<prefix>.cel.*`. Never raises."""
    log = steps.run(f"{prefix}.cel.parse", lambda: parse_cel(log_bytes), describe=lambda f: f"{len(f.records)} records")

    def replayed() -> Mapping[int, bytes]:
        return _compare(replay_cel(log.value, _admitted(bank)), registers, bank, log.value.style)

    bound = steps.run(f"{prefix}.cel.replay", replayed, log, *needs)
    right = steps.run(f"{prefix}.cel.digests", lambda: check_digests(log.value, bank), bound)
    return steps.run(f"{prefix}.cel.events", lambda: interpret_cel(log.value, bank), right)


def _admitted(bank: str) -> str:
    require(bank in BANKS, f"no verdict may rest on the bank {bank}")
    return bank


def _compare(
    found: Mapping[int, bytes],
    registers: Mapping[int, bytes],
    bank: str,
    style: Style,
    growing: Collection[int] = (),
) -> Mapping[int, bytes]:
    """The registers of a log that were compared, if they are what was quoted and nothing else was. Raises `Doubt`."""
    require(registers, "no register was quoted")
    for register, value in sorted(registers.items()):
        name = register_name(style, register)
        replayed = found.get(register)
        if replayed is None:
            untouched = hmac.compare_digest(value, reset_value(style, register, bank))
            require(untouched, f"{name} was extended, and the log has no event of it")
        else:
            require(hmac.compare_digest(value, replayed), f"{name} is not what the log replays to")
    for register in found:
        explained = register in registers or register in growing
        require(explained, f"the log has events of {register_name(style, register)}, which was not quoted")
    return {register: value for register, value in found.items() if register in registers}


def _digests(log: Log, bank: str) -> tuple[Judgement, ...]:
    """Every event's standing, if none is a mismatch. Raises `Doubt`."""
    judgements = judge(log, bank)
    for judgement in judgements:
        event = judgement.event
        said = f"event {event.number} ({event.name}): the digest is not that of {judgement.over}"
        require(judgement.standing is not Standing.MISMATCH, said)
    return judgements


def _describe_log(log: Log) -> str:
    return f"{len(log.events)} events, {', '.join(log.algorithms)}"


def _names(style: Style) -> Callable[[Mapping[int, bytes]], str]:
    return lambda registers: ", ".join(register_name(style, register) for register in sorted(registers))


def _describe_standings(judgements: tuple[Judgement, ...]) -> str:
    counts = Counter(judgement.standing for judgement in judgements)
    return ", ".join(f"{counts[standing]} {standing}" for standing in Standing if counts[standing])


def _describe_facts(facts: Facts) -> str:
    return f"Secure Boot {'on' if facts.secure_boot.enabled else 'off'}, {len(facts.images)} images"
