"""What a policy asks of Intel SGX."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.records.policy.date import check_date
from strongroom.records.policy.requirement import Requirement


@dataclass(frozen=True, slots=True)
class SgxPolicy:
    """What is wanted of an SGX enclave; the names follow Intel's. Identities and masks are lower-case hexadecimal.

    `debug`, `provision_key`, `einittoken_key` and `kss` are requirements on single attribute bits, written "0" or "1".
    So are `dynamic_platform`, `cached_keys` and `smt` on what Intel certified of the platform, and "" where Intel does
    not state it (it does of platforms with several packages). `isvprodid` is written in decimals. An enclave without
    KSS has a `config_id` of zeros and a `config_svn` of 0. MRENCLAVE is in the reference values. `tcb_date_minimum` is
    the earliest date admitted of the oldest TCB level that counts ("2025-03-12").
    """

    debug: Requirement
    provision_key: Requirement
    einittoken_key: Requirement
    kss: Requirement
    config_id: Requirement
    config_svn_minimum: int
    mrsigner: Requirement
    isvprodid: Requirement
    isvsvn_minimum: int
    xfrm: Requirement
    miscselect: Requirement
    dynamic_platform: Requirement
    cached_keys: Requirement
    smt: Requirement
    tcb_status: Requirement
    advisories: Requirement
    tcb_evaluation_minimum: int
    tcb_date_minimum: str

    def __post_init__(self) -> None:
        check_date(self.tcb_date_minimum)
