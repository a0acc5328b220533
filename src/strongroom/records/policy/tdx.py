"""What a policy asks of Intel TDX."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.records.policy.date import check_date
from strongroom.records.policy.requirement import Requirement


@dataclass(frozen=True, slots=True)
class TdxPolicy:
    """What is wanted of a TDX quote; the names follow Intel's. Attributes and modules are lower-case hexadecimal.

    `debug`, `sept_ve_disable`, `perfmon`, `migratable`, `pks` and `kl` are requirements on single attribute bits,
    written "0" or "1". So are `dynamic_platform`, `cached_keys` and `smt` on what Intel certified of the platform, and
    "" where Intel does not state it (it does of platforms with several packages). `tcb_date_minimum` is the earliest
    date admitted of the oldest TCB level that counts ("2025-03-12").
    """

    mrseam: Requirement
    mrsignerseam: Requirement
    xfam: Requirement
    debug: Requirement
    sept_ve_disable: Requirement
    perfmon: Requirement
    migratable: Requirement
    pks: Requirement
    kl: Requirement
    mrowner: Requirement
    mrownerconfig: Requirement
    mr_service_td: Requirement
    dynamic_platform: Requirement
    cached_keys: Requirement
    smt: Requirement
    tcb_status: Requirement
    advisories: Requirement
    tcb_evaluation_minimum: int
    tcb_date_minimum: str

    def __post_init__(self) -> None:
        check_date(self.tcb_date_minimum)
