"""Which input of a launch made a live register differ from what its specification says.

Knows: how the events of a live log are compared with those that are expected, and whose input each is. Does not know: how
either came to be (`measure`, `tee.eventlog`). The live log counts only where it replays to registers that hardware signed,
which an appraisal checks before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from strongroom.appraisal.kinds import kind_of
from strongroom.launch.measure import Expected
from strongroom.tee.eventlog import Input, difference


def explain_launch(expected: Expected, claims: Mapping[str, str | int], actual: Sequence[Input]) -> list[str]:
    """A sentence for each register that differs, with the input by name.

    `claims` are the registers as quoted, `actual` the events of the live log. Registers that reference values must pin and
    that could not be computed are said to be so; without a log the registers are named alone.
    """
    differing = [name for name, value in expected.registers.items() if name in claims and claims[name] != value]
    rows = [row for row in expected.inputs if row.register in differing]
    wanted = [Input(row.register, row.type, row.digest, row.description) for row in rows]
    found = difference(wanted, [row for row in actual if row.register in differing]) if actual else ()
    said = []
    for one in found:
        own = [row for row in rows if row.register == one.register]
        origin = own[one.position - 1].origin if one.position <= len(own) else "something that was not expected"
        said.append(f"{origin}: {one.text}")
    explained = {one.register for one in found}
    said += [_bare(name, expected, claims) for name in differing if name not in explained]
    needed = kind_of(expected.kind).registers
    return [*said, *(f"{name} cannot be computed: {why}" for name, why in expected.unknown.items() if name in needed)]


def _bare(name: str, expected: Expected, claims: Mapping[str, str | int]) -> str:
    return f"{name} differs, and no event log says why: expected {expected.registers[name]}, found {claims[name]}"
