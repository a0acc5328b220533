"""All findings of one host, and what it is ready for.

Knows: that ready means every check of a purpose passed. Does not know: how they are printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strongroom.launch.doctor.finding import Check, Finding, Status
from strongroom.launch.doctor.host import Host
from strongroom.launch.doctor.table import CHECKS, PURPOSES


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, check by check, in the order of the table, and what was `asked` for."""

    asked: tuple[str, ...]
    findings: tuple[tuple[Check, Finding], ...]

    def ready(self, purpose: str) -> bool:
        """Whether every check of a purpose passed; one that has no check here is not ready."""
        found = [finding.status for check, finding in self.findings if purpose in check.purposes]
        return bool(found) and all(status is Status.PASS for status in found)

    @property
    def accepted(self) -> bool:
        """Whether something was asked for, and the host is ready for all of it."""
        return bool(self.asked) and all(self.ready(purpose) for purpose in self.asked)

    @property
    def relevant(self) -> tuple[tuple[Check, Finding], ...]:
        """The findings of what was asked for."""
        return tuple((check, finding) for check, finding in self.findings if check.purposes & set(self.asked))

    def as_dict(self) -> Mapping[str, Any]:
        """The form for programs: every check, whoever asks for it, and every purpose."""
        return {
            "asked": list(self.asked),
            "accepted": self.accepted,
            "checks": [
                {
                    "id": check.id,
                    "area": check.area,
                    "status": finding.status.value,
                    "detail": finding.detail,
                    "remedy": finding.remedy,
                }
                for check, finding in self.findings
            ],
            "ready": {purpose: self.ready(purpose) for purpose in PURPOSES},
        }


def examine(host: Host, asked: Sequence[str]) -> Report:
    """Make every check. `asked` are purposes of `PURPOSES`."""
    return Report(tuple(asked), tuple((check, check.look(host)) for check in CHECKS))
