"""Cells: small states that a broker keeps for workers under a policy, and what is asked of them (release protocol).

Knows: the shapes. Does not know: who decides (`release.cells`), or how requests are signed. A counter only grows and
holds a digest beside its number; a budget only falls, from a limit in whole units of the owner's choice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest, digest_record
from strongroom.records.envelope import Envelope
from strongroom.records.release import LogProof, Opening, WrappedKey
from strongroom.records.worker import Keyset


class CellKind(enum.StrEnum):
    """What a cell holds."""

    COUNTER = "counter"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as it stands.

    `value` is a counter's number, or what is left of a budget; `limit` what a budget began with, None of a counter;
    `digest` what the last advance put beside the number; `output_key` the key whose wrapped keys a spend may be
    granted, or None; `changes` how often it was advanced or spent; `created` in Unix seconds.
    """

    TYPE: ClassVar[str] = "strongroom/cell/v1"
    id: str
    kind: CellKind
    policy_id: str
    limit: int | None
    output_key: str | None
    value: int
    digest: Digest | None
    changes: int
    created: int


@dataclass(frozen=True, slots=True)
class Advance:
    """Asks that a counter go from `expected`, its present number, to `next`, with `digest` beside it.

    Travels in an envelope signed by the receipt key of the lease's keyset; `nonce` (32 bytes) is new for each request.
    """

    TYPE: ClassVar[str] = "strongroom/cell-advance/v1"
    cell_id: str
    lease_id: str
    nonce: bytes
    expected: int
    next: int
    digest: Digest

    @property
    def request_digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class Output:
    """The wrapped key that a spend asks for, to seal with, and the keyset of the lease, to which it is released."""

    wrapped: WrappedKey
    keyset: Keyset


@dataclass(frozen=True, slots=True)
class Spend:
    """Asks that `amount` be taken from a budget for `purpose`, a short word that everybody may read in the log.

    Travels as `Advance` does.
    """

    TYPE: ClassVar[str] = "strongroom/cell-spend/v1"
    cell_id: str
    lease_id: str
    nonce: bytes
    amount: int
    purpose: str
    output: Output | None

    @property
    def request_digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class Look:
    """Asks how a cell stands. Travels as `Advance` does; changes nothing."""

    TYPE: ClassVar[str] = "strongroom/cell-look/v1"
    cell_id: str
    lease_id: str
    nonce: bytes


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """The broker's yes to a change: the cell's value after it, the grant of the output key if one was asked for, the proof.

    `openings` open what the leaf hides.
    """

    TYPE: ClassVar[str] = "strongroom/cell-answer/v1"
    value: int
    grant: Envelope | None
    proof: LogProof
    openings: tuple[Opening, ...]


@dataclass(frozen=True, slots=True)
class CellView:
    """A cell as it stood when the `Look` with this nonce was answered. Travels in an envelope that the broker signed."""

    TYPE: ClassVar[str] = "strongroom/cell-view/v1"
    nonce: bytes
    cell: Cell
