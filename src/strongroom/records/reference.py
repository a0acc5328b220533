"""What builders and custodians sign about a workload and about machines: reference values, custody lists.

Knows: the shapes. Does not know: who may sign them (the policy names their keys), or how they are judged (`appraisal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from strongroom.records.digest import Digest, digest_record


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference values: the measurements of one image as its builder computed them, for one kind of evidence.

    `registers` maps the name of each register (as the kind's claims name it) to the values admitted, in lower-case
    hexadecimal. Which registers must be there depends on the kind (`appraisal.kinds`); none may be empty.
    """

    image: Digest
    kind: str
    registers: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.registers or not all(self.registers.values()):
            raise ValueError("reference values that admit anything, or nothing")


@dataclass(frozen=True, slots=True)
class MeasuredInput:
    """One thing that an image measures on its way up, in its order: which register, what kind of event, its digest.

    Nobody trusts it: the registers decide. It lets an explanation say *which* input made a register differ.
    """

    image: Digest
    register: str
    event: str
    digest: str
    what: str


@dataclass(frozen=True, slots=True)
class ReferenceValues:
    """One builder's signed word on images. `version` never goes back."""

    TYPE: ClassVar[str] = "strongroom/reference-values/v1"
    builder: str
    version: int
    references: tuple[Reference, ...]
    inputs: tuple[MeasuredInput, ...]

    def __post_init__(self) -> None:
        if not self.references or self.version < 1:
            raise ValueError("reference values name at least one image, and their version starts at 1")

    @property
    def digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine in a custody list: an identifier that its hardware signs, and where it stands.

    `identifier` names the claim (`ppid`, `piid`, `chip_id`, `instance`, `instance_id`, `endorsement`, `ak_name`), `value`
    is its value as the claim writes it. `jurisdiction` is a code that the list's readers agree on (ISO 3166, say).
    """

    identifier: str
    value: str
    verdict: Literal["allow", "deny"]
    site: str
    jurisdiction: str


@dataclass(frozen=True, slots=True)
class CustodyList:
    """One custodian's signed word on whose machines are whose. It holds from `issued` until `not_after` (Unix seconds)."""

    TYPE: ClassVar[str] = "strongroom/custody/v1"
    custodian: str
    version: int
    issued: int
    not_after: int
    machines: tuple[Machine, ...]

    def __post_init__(self) -> None:
        if self.version < 1 or self.not_after <= self.issued:
            raise ValueError("a custody list's version starts at 1, and it holds for some time")

    @property
    def digest(self) -> Digest:
        return digest_record(self)
