"""What the verification of one piece of evidence finds, the same for every kind.

Knows: the shape. Does not know: kinds, policies, levels (`appraisal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.records.verdict import Check, RootClass, all_passed

NO_CRL = "no revocation list was given"
"""The reason of a revocation check that was not run because there was nothing to run it on."""


@dataclass(frozen=True, slots=True)
class Genuine:
    """The evidence is genuine if every check passed; `checks` is never empty.

    `kind` names the verifier (`tdx`). `root_class` is that of the anchor under which the evidence's path holds, or
    None. `tcb_status` is the vendor's word for the standing of the platform, merged over its parts, or None where
    one of them has none or the vendor publishes none. A claim is made only if the steps that vouch for it passed; its
    values are lower-case hexadecimal, plain words, or numbers. `report_data` is the claim that binds: the bytes that
    the attester chose and the hardware signed, whatever the vendor calls them.
    """

    kind: str
    checks: tuple[Check, ...]
    root_class: RootClass | None
    tcb_status: str | None
    advisories: tuple[str, ...]
    claims: Mapping[str, str | int]

    @property
    def holds(self) -> bool:
        """Whether there are checks and every one passed."""
        return all_passed(self.checks)
