"""What a policy wants of a broker's log: which witnesses must have signed it before a key leaves.

Knows: the member. Does not know: the form of a verifier key, or a signature (`receipts.cosignature`).
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.records.policy.requirement import Requirement


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """`least` of the witnesses whose verifier keys (`name+keyid+base64`) are in `keys`; with any, `least` is 0."""

    keys: Requirement
    least: int

    def __post_init__(self) -> None:
        if self.keys.any is not None and self.least:
            raise ValueError("witnesses that nobody names cannot be demanded: least is 0 where keys is any")
        if self.keys.any is None and not 1 <= self.least <= len(self.keys.one_of):
            raise ValueError("at least one of the named witnesses must sign, and no more than are named")
