"""What an appraisal needs to know of one kind of evidence, and what all kinds' requirements share.

Knows: the shape. Does not know: any kind; each has a file beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import Collateral
from strongroom.records.policy import Policy, Requirement
from strongroom.records.verdict import Check, Level, Status, judged, not_run
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine


class Judge(Protocol):
    """Is it genuine? Parses and verifies; raises `MalformedEvidence` for bytes that do not parse, and nothing else."""

    def __call__(
        self, quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int
    ) -> Genuine: ...


@dataclass(frozen=True, slots=True)
class Register:
    """A register: the claim that holds it, its number as the device counts, and the hash that extends it."""

    claim: str
    index: int
    algorithm: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of evidence.

    `level` is what it reaches under a vendor's or a cloud's root. `registers` are the claims that reference values must
    pin, at the least. `runtime` is the register that run-time events were extended into, or None where there is no such
    register. `launch_spec` is the claim that holds the digest of the
    launch specification, with the hash that makes it, or None. `machine` are the claims that name the machine.
    `stated` says what evidence says, unjudged (it raises `MalformedEvidence`); `gather` picks what belongs to a piece
    of evidence out of a pile of collateral; `wanted` judges the policy's requirements; `exposed` what needs no owner's
    wishes: whether the host may look inside.
    """

    name: str
    level: Level
    registers: tuple[str, ...]
    runtime: Register | None
    launch_spec: tuple[str, str] | None
    machine: tuple[str, ...]
    judge: Judge
    stated: Callable[[bytes], dict[str, str | int]]
    gather: Callable[[bytes, Pile], Collateral]
    wanted: Callable[[Genuine, Policy], list[Check]]
    exposed: Callable[[Genuine], list[Check]]


def without_log(log: bytes) -> None:
    """Return if there is no log, for kinds that have none. Raises `MalformedEvidence`."""
    if log:
        raise MalformedEvidence("evidence of this kind comes without an event log")


def claim(genuine: Genuine, identifier: str, name: str, wanted: Requirement) -> Check:
    """Whether a claim in words or hexadecimal is admitted; not-run where it was not made."""
    value = genuine.claims.get(name)
    if value is None:
        return not_run(identifier, "the evidence makes no such claim")
    return judged(identifier, wanted.admits(str(value)), f"{value}; {wanted.any}" if wanted.any else str(value))


def least(genuine: Genuine, identifier: str, name: str, minimum: int) -> Check:
    """Whether a claim that is a number reaches `minimum`; not-run where it was not made."""
    value = genuine.claims.get(name)
    if not isinstance(value, int):
        return not_run(identifier, "the evidence makes no such claim")
    return judged(identifier, value >= minimum, f"{value}, at least {minimum}")


def status(genuine: Genuine, identifier: str, wanted: Requirement) -> Check:
    """Whether the vendor's word for the platform's standing is admitted."""
    if genuine.tcb_status is None:
        return not_run(identifier, "the platform has no TCB status")
    return judged(identifier, wanted.admits(genuine.tcb_status), genuine.tcb_status)


def chosen(exposed: Check, identifier: str, wanted: Requirement, *, closed: str, open_: str) -> Check:
    """An owner's requirement on what `exposed` found: `closed` where it passed, `open_` where it failed."""
    if exposed.status is Status.NOT_RUN:
        return not_run(identifier, exposed.detail)
    value = closed if exposed.status is Status.PASS else open_
    return judged(identifier, wanted.admits(value), f"{value}; {wanted.any or exposed.detail}")


def up_to_date(genuine: Genuine, identifier: str) -> Check:
    """Whether the vendor says that nothing is left to mend: what nobody asked about is judged strictly."""
    if genuine.tcb_status is None:
        return not_run(identifier, "the platform has no TCB status")
    known = ", ".join((genuine.tcb_status, *genuine.advisories))
    return judged(identifier, genuine.tcb_status == "UpToDate", known)


def advisories(genuine: Genuine, identifier: str, wanted: Requirement) -> Check:
    """Whether every security advisory that applies is admitted by name."""
    if genuine.tcb_status is None:
        return not_run(identifier, "the platform has no TCB status")
    foreign = [advisory for advisory in genuine.advisories if not wanted.admits(advisory)]
    return judged(identifier, not foreign, ", ".join(foreign) or "none beyond those admitted")


def bits(genuine: Genuine, name: str, length: int) -> int | None:
    """A claim of `length` bytes in hexadecimal as the bits it holds (little-endian), or None where it was not made."""
    text = genuine.claims.get(name)
    if not isinstance(text, str) or len(text) != 2 * length:
        return None
    return int.from_bytes(bytes.fromhex(text), "little")
