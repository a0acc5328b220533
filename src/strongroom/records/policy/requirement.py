"""A requirement: what one field of a policy may ask for.

Knows: that nothing is admitted by silence. Does not know: which field it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from strongroom.errors import MalformedRecord


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
