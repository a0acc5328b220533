"""Which level a platform and its enclaves reach, and what several levels make together.

Knows: Intel's rules that TDX and SGX share (PCS API v4, Get TCB Info and Get QE Identity; Intel's quote verification
library, TCB evaluation). Does not know: signatures, TDX modules (`tdx.tcb`), or whether a status is good enough
(`appraisal`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from strongroom.tee.dcap.documents import EnclaveLevel, Level, PlatformLevel, QeIdentity, TcbInfo
from strongroom.tee.dcap.pck import PckExtension
from strongroom.tee.dcap.quote import EnclaveReport
from strongroom.tee.steps import Doubt, require

REVOKED = "Revoked"
SGX_DEBUG = 0x02

# A status is a set of shortcomings; worst-of is their union (out of date makes hardening moot, revoked makes all moot).
SHORTCOMINGS: dict[str, frozenset[str]] = {
    "UpToDate": frozenset(),
    "SWHardeningNeeded": frozenset({"hardening"}),
    "ConfigurationNeeded": frozenset({"configuration"}),
    "ConfigurationAndSWHardeningNeeded": frozenset({"configuration", "hardening"}),
    "OutOfDate": frozenset({"old"}),
    "OutOfDateConfigurationNeeded": frozenset({"old", "configuration"}),
    REVOKED: frozenset({"revoked"}),
}
_NAMES = {shortcomings: name for name, shortcomings in SHORTCOMINGS.items()}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the levels of all parts make together, and as claims: the status of each part, the oldest level's date."""

    merged: Level
    claims: Mapping[str, str | int]

    @classmethod
    def of(cls, parts: Mapping[str, Level], merged: Level) -> Standing:
        """`parts` are the levels by the names of what reached them."""
        claims: dict[str, str | int] = {f"tcb_status_{name}": level.status for name, level in parts.items()}
        return cls(merged, claims | {"tcb_date": merged.date})


def merge(levels: Iterable[Level]) -> Level:
    """Worst status, every advisory once (sorted), oldest date. `levels` must not be empty."""
    found = tuple(levels)
    shortcomings = frozenset[str]().union(*(SHORTCOMINGS[level.status] for level in found))
    if "revoked" in shortcomings:
        shortcomings = frozenset({"revoked"})
    elif "old" in shortcomings:
        shortcomings -= {"hardening"}
    advisories = tuple(sorted({advisory for level in found for advisory in level.advisories}))
    return Level(_NAMES[shortcomings], advisories, min(level.date for level in found))


def platform_level(info: TcbInfo, pck: PckExtension, also: Callable[[PlatformLevel], bool] = lambda _: True) -> Level:
    """The first level, in Intel's order, whose every SVN the platform reaches, and which `also` admits.

    Raises `Doubt` if there is none, or if it is Revoked.
    """
    for candidate in info.levels:
        if pck.pcesvn >= candidate.pcesvn and reaches(pck.components, candidate.sgx) and also(candidate):
            return not_revoked(candidate.level, "the platform")
    raise Doubt("the platform reaches no TCB level")


def check_qe_identity(identity: QeIdentity, report: EnclaveReport) -> None:
    """Return if `report` is of the quoting enclave that Intel names, not in debug mode. Raises `Doubt`."""
    require(report.mrsigner == identity.mrsigner, "the quoting enclave was signed by somebody else")
    require(report.isvprodid == identity.isvprodid, f"the quoting enclave is product {report.isvprodid}")
    require(
        same_under(identity.miscselect_mask, report.miscselect, identity.miscselect),
        "the quoting enclave has another MISCSELECT",
    )
    require(
        same_under(identity.attributes_mask, report.attributes, identity.attributes),
        "the quoting enclave has other attributes",
    )
    require(not report.attributes[0] & SGX_DEBUG, "the quoting enclave is in debug mode")


def qe_level(identity: QeIdentity, report: EnclaveReport) -> Level:
    """The level of the quoting enclave. Raises `Doubt` if there is none, or Revoked."""
    return enclave_level(identity.levels, report.isvsvn, "the quoting enclave")


def enclave_level(levels: Sequence[EnclaveLevel], isvsvn: int, what: str) -> Level:
    """The first level whose ISVSVN is reached. Raises `Doubt` if there is none, or Revoked."""
    reached = next((candidate.level for candidate in levels if isvsvn >= candidate.isvsvn), None)
    if reached is None:
        raise Doubt(f"{what} reaches no TCB level")
    return not_revoked(reached, what)


def not_revoked(level: Level, what: str) -> Level:
    """The level itself, unless it is Revoked. Raises `Doubt`."""
    require(level.status != REVOKED, f"{what} is revoked")
    return level


def reaches(have: Sequence[int], needed: Sequence[int]) -> bool:
    """Whether every SVN is at least the one needed at its place."""
    return all(own >= least for own, least in zip(have, needed, strict=True))


def same_under(mask: bytes, one: bytes, other: bytes) -> bool:
    """Whether two values of the mask's length agree where the mask has ones."""
    keep = int.from_bytes(mask, "big")
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")) & keep == 0
