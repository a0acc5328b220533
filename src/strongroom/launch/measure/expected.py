"""What registers will hold, and which inputs make it so.

Knows: that a register is a chain of hashes over events in their order, and that one unknown event leaves all of it unknown.
Does not know: which events there are (`tpm`, `tdx`), or what a policy does with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.tee.eventlog import codes

LARGE = 1 << 20


@dataclass(frozen=True, slots=True)
class ExpectedInput:
    """One event: `register`, `type` and `digest` as a log writes them, what it is, and whose `origin` it has in the spec."""

    register: str
    type: str
    digest: str
    description: str
    origin: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The registers of a machine that is launched as specified.

    `registers` are those that are known, by the names that the kind's claims use, in lower-case hexadecimal; `unknown` says
    of the others why they cannot be computed; `inputs` are the events of known registers, in their order.
    """

    kind: str
    registers: Mapping[str, str]
    unknown: Mapping[str, str]
    inputs: tuple[ExpectedInput, ...]


@dataclass(slots=True)
class Chain:
    """Registers while they are extended, in one bank."""

    algorithm: str
    unknown: dict[str, str] = field(default_factory=dict)
    inputs: list[ExpectedInput] = field(default_factory=list)
    fixed: dict[str, str] = field(default_factory=dict)
    last: tuple[bytes | memoryview, bytes] = (b"", b"")

    def data(self, register: str, kind: int, data: bytes | memoryview, origin: str, what: str = "") -> None:
        """An event whose digest is over `data`."""
        self.extend(register, kind, self._digest(data), origin, what)

    def _digest(self, data: bytes | memoryview) -> bytes:
        """The digest of `data`; of the last large one it is kept, because an initrd is measured twice."""
        if self.last[0] is data:
            return self.last[1]
        digest = hashlib.new(self.algorithm, data).digest()
        if len(data) > LARGE:
            self.last = data, digest
        return digest

    def extend(self, register: str, kind: int, digest: bytes, origin: str, what: str) -> None:
        """An event with a digest."""
        self.inputs.append(ExpectedInput(register, codes.NAMES[kind], digest.hex(), what, origin))

    def fix(self, register: str, value: str) -> None:
        """A register whose value is known as a whole, from a boot that somebody observed."""
        self.fixed[register] = value

    def give_up(self, register: str, why: str) -> None:
        """A register that holds what cannot be computed; the first reason counts."""
        self.unknown.setdefault(register, why)

    def finish(self, kind: str, untouched: tuple[str, ...] = ()) -> Expected:
        """All registers; `untouched` are those that stay as they were at power-on unless an event says otherwise."""
        size = hashlib.new(self.algorithm).digest_size
        values = {name: bytes(size) for name in untouched}
        for event in self.inputs:
            value = values.get(event.register, bytes(size))
            values[event.register] = hashlib.new(self.algorithm, value + bytes.fromhex(event.digest)).digest()
        known = {name: value.hex() for name, value in values.items() if name not in self.unknown} | self.fixed
        return Expected(
            kind=kind,
            registers={name: known[name] for name in sorted(known, key=order)},
            unknown={name: self.unknown[name] for name in sorted(self.unknown, key=order) if name not in self.fixed},
            inputs=tuple(
                event for event in self.inputs if event.register in known and event.register not in self.fixed
            ),
        )


def order(register: str) -> tuple[str, int]:
    """`pcr9` before `pcr11`."""
    name = register.rstrip("0123456789")
    return name, int(register[len(name) :] or 0)
