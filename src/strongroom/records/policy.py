"""The policy: what its owner wants of a place. Data, typed, versioned, signed; no member has a silent default.

Knows: the members and what a requirement is. Does not know: how a policy is judged (`appraisal`), written (`cli`) or signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from strongroom.errors import MalformedRecord
from strongroom.records.digest import Digest, digest_record
from strongroom.records.verdict import Level


@dataclass(frozen=True, slots=True)
class Requirement:
    """One of these values, or explicitly any value with the reason why. An empty list is refused.

    In JSON and TOML: `["a", "b"]` or `{any = "the reason"}`.
    """

    one_of: tuple[str, ...] = ()
    any: str | None = None

    def __post_init__(self) -> None:
        if bool(self.one_of) == (self.any is not None) or (self.any is not None and not self.any.strip()):
            raise ValueError('a requirement is a non-empty list, or {any = "reason"}')

    def admits(self, value: str) -> bool:
        return self.any is not None or value in self.one_of

    def __to_json__(self) -> Any:
        return {"any": self.any} if self.any is not None else list(self.one_of)

    @classmethod
    def __from_json__(cls, value: Any, where: str) -> Requirement:
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return cls(one_of=tuple(value))
        if (
            isinstance(value, dict)
            and value.keys() == {"any"}
            and isinstance(value["any"], str)
            and value["any"].strip()
        ):
            return cls(any=value["any"])
        raise MalformedRecord(f'{where} must be a non-empty list or {{any = "reason"}}')

    SCHEMA: ClassVar[dict[str, Any]] = {
        "oneOf": [
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            {
                "type": "object",
                "properties": {"any": {"type": "string", "minLength": 1}},
                "required": ["any"],
                "additionalProperties": False,
            },
        ]
    }


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference values: the measurements of one image as its builder computed them (hexadecimal, 48 bytes each)."""

    image: Digest
    mrtd: str
    rtmr0: str
    rtmr1: str
    rtmr2: str


@dataclass(frozen=True, slots=True)
class TdxPolicy:
    """What is wanted of a TDX quote; the names follow Intel's. Attributes and modules are lower-case hexadecimal.

    `debug`, `sept_ve_disable`, `perfmon` and `migratable` are requirements on single attribute bits, written "0" or "1".
    """

    mrseam: Requirement
    mrsignerseam: Requirement
    xfam: Requirement
    debug: Requirement
    sept_ve_disable: Requirement
    perfmon: Requirement
    migratable: Requirement
    mrowner: Requirement
    mrownerconfig: Requirement
    mr_service_td: Requirement
    tcb_status: Requirement
    advisories: Requirement
    tcb_evaluation_minimum: int


@dataclass(frozen=True, slots=True)
class Policy:
    """One owner's policy. `version` never goes back. `levels` names what is accepted, `simulated` only by name."""

    TYPE: ClassVar[str] = "strongroom/policy/v1"
    id: str
    version: int
    levels: tuple[Level, ...]
    references: tuple[Reference, ...]
    workload: Requirement
    artifacts: Requirement
    configuration: Requirement
    launch_spec: Requirement
    tdx: TdxPolicy
    lease_seconds: int

    def __post_init__(self) -> None:
        if not self.levels or Level.NONE in self.levels:
            raise ValueError("levels must name at least one level, and never none")
        if not self.references:
            raise ValueError("a policy without reference values accepts nothing")
        if self.version < 1 or not 1 <= self.lease_seconds <= 86_400:  # noqa: PLR2004 (one day)
            raise ValueError("version starts at 1, and a lease lasts from a second to a day")

    @property
    def digest(self) -> Digest:
        return digest_record(self)
