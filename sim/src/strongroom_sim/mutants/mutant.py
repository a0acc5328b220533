"""What a mutant is, and how values are changed.

Knows: that whoever changes something says, independently of any verifier, what must come of it. Does not know: kinds of
evidence, or how mutants are judged (`campaign`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from strongroom.appraisal.kinds import Kind
from strongroom.errors import UsageError
from strongroom.records.evidence import Collateral
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine
from strongroom_sim.conformance import Sample

T = TypeVar("T")
Said = Mapping[str, str | int | None]
"""What changes in a verdict: claims by name, None for one that is no longer made; `STATUS` and `ADVISORIES` beside them."""
STATUS, ADVISORIES = "*tcb_status", "*advisories"
UNCHANGED: Said = {}
TRIES = 64


def said(genuine: Genuine) -> dict[str, str | int | None]:
    """All that a policy can judge of a verdict."""
    return {**genuine.claims, STATUS: genuine.tcb_status, ADVISORIES: ", ".join(genuine.advisories)}


@dataclass(frozen=True, slots=True)
class Base:
    """A good sample, the anchors under which it holds, and what the verification found."""

    kind: Kind
    anchors: Sequence[TrustAnchor]
    sample: Sample
    genuine: Genuine

    @classmethod
    def of(cls, kind: Kind, anchors: Sequence[TrustAnchor], sample: Sample) -> Self:
        """Raises `UsageError` for a sample that does not hold: nothing could be learnt from changing it."""
        genuine = kind.judge(sample.quote, sample.log, collateral=sample.collateral, anchors=anchors, now=sample.now)
        if not genuine.holds:
            failed = ", ".join(f"{check.id} {check.detail}" for check in genuine.checks if check.status != "pass")
            raise UsageError(f"the sample of {kind.name} to start from does not hold: {failed}")
        return cls(kind, anchors, sample, genuine)

    def judge(self, sample: Sample) -> Genuine:
        """The verification of another sample under the same anchors."""
        return self.kind.judge(
            sample.quote, sample.log, collateral=sample.collateral, anchors=self.anchors, now=sample.now
        )


@dataclass(frozen=True, slots=True)
class Change:
    """Changed bytes of one part, and what must come of it.

    `says` is None where the verdict must be a refusal. Else it may be one, or the sample may hold; then it must claim what
    the good one claims but for `says` and, unpredictably, for `loose`. Only if `free` names an explanation may it claim
    exactly the same (`explained`).
    """

    data: bytes
    where: str
    says: Said | None = None
    loose: frozenset[str] = frozenset()
    free: str = ""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed sample. `aware`: somebody knew the structure and signed anew; else bytes were changed blindly."""

    base: Base
    sample: Sample
    change: Change
    aware: bool = True

    @property
    def where(self) -> str:
        return self.change.where


Make = Callable[[random.Random], Mutant]


@dataclass(frozen=True, slots=True)
class Maker:
    """One way of making aware mutants; a heavier one is asked more often."""

    weight: int
    make: Make


@dataclass(frozen=True, slots=True)
class Forge:
    """All that is needed for mutants of one kind: what to start from, and the ways to change it knowingly, by name."""

    kind: str
    bases: Sequence[Base]
    makers: Mapping[str, Maker]
    weights: Sequence[int] = field(init=False)
    names: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.makers))
        object.__setattr__(self, "weights", tuple(maker.weight for maker in self.makers.values()))

    def aware(self, chance: random.Random) -> Mutant:
        """A mutant whose maker knew the structure."""
        name = chance.choices(self.names, self.weights)[0]
        return self.makers[name].make(chance)


@dataclass(frozen=True, slots=True)
class Field:
    """A field at a place in a signed structure.

    `says` gives what a value makes the evidence say, or None if it must be refused; `free` names the explanation why it
    may say nothing.
    """

    name: str
    at: int
    size: int
    says: Callable[[bytes], Said | None]
    free: str = ""

    def of(self, data: bytes) -> bytes:
        return data[self.at : self.at + self.size]

    def put(self, data: bytes, value: bytes) -> bytes:
        return data[: self.at] + value + data[self.at + self.size :]

    def changed(self, data: bytes, chance: random.Random) -> Change:
        """`data` with another value in this field."""
        value = other(chance, self.of(data))
        return Change(self.put(data, value), self.name, self.says(value), free=self.free)


def refused(_: bytes) -> None:
    """Any other value must be refused."""
    return


def unsaid(_: bytes) -> Said:
    """Any other value says nothing."""
    return UNCHANGED


def shown(name: str) -> Callable[[bytes], Said]:
    """A field that stands in a claim as it is, in hexadecimal."""
    return lambda value: {name: value.hex()}


def number(name: str) -> Callable[[bytes], Said]:
    """A field that stands in a claim as a number, little-endian."""
    return lambda value: {name: int.from_bytes(value, "little")}


def layout(fields: Sequence[tuple[str, int, Callable[[bytes], Said | None], str]], start: int = 0) -> tuple[Field, ...]:
    """Fields one behind the other: name, size, what it says, explanation."""
    found, at = [], start
    for name, size, says, free in fields:
        found.append(Field(name, at, size, says, free))
        at += size
    return tuple(found)


def other(chance: random.Random, value: bytes) -> bytes:
    """Another value of the same size: a boundary, a neighbour, a bit, a byte, or anything."""
    size = len(value)
    stands = int.from_bytes(value, "little")
    for _ in range(TRIES):
        match chance.randrange(8):
            case 0:
                found = bytes(size)
            case 1:
                found = b"\xff" * size
            case 2:
                found = ((stands + 1) % (1 << 8 * size)).to_bytes(size, "little")
            case 3:
                found = ((stands - 1) % (1 << 8 * size)).to_bytes(size, "little")
            case 4:
                found = b"\x7f" * size
            case 5:
                at = chance.randrange(size)
                found = value[:at] + chance.randbytes(1) + value[at + 1 :]
            case 6:
                found = chance.randbytes(size)
            case _:
                found = (stands ^ 1 << chance.randrange(8 * size)).to_bytes(size, "little")
        if found != value:
            return found
    return bytes([value[0] ^ 1]) + value[1:]


def other_number(chance: random.Random, value: int, limit: int) -> int:
    """Another number from 0 to `limit`, mostly at a boundary."""
    near = [0, 1, value - 1, value + 1, limit, limit - 1, chance.randrange(limit + 1), value ^ 1 << chance.randrange(8)]
    found = [number for number in near if 0 <= number <= limit and number != value]
    return chance.choice(found)


def swapped(record: T, **members: Any) -> T:
    """A record with other members, of whatever types."""
    return replace(record, **members)  # type: ignore[type-var]  # every record is a dataclass


def with_quote(base: Base, change: Change) -> Mutant:
    """A mutant whose quote is the changed bytes."""
    return Mutant(base, replace(base.sample, quote=change.data), change)


def with_collateral(base: Base, collateral: Collateral, change: Change, quote: bytes | None = None) -> Mutant:
    """A mutant with other collateral, and another quote if there is one."""
    sample = replace(base.sample, collateral=collateral, quote=base.sample.quote if quote is None else quote)
    return Mutant(base, sample, change)
