"""Which level a platform, its TDX module and its quoting enclave reach, and what that makes together.

Knows: Intel's rules (PCS API v4, Get TDX TCB Info; Intel TDX DCAP Quoting Library API, TCB evaluation). Does not
know: signatures, or whether a status is good enough (`appraisal`). Not covered: Intel's status TDRelaunchAdvised, a
milder name for a TD that was launched before its TDX module was updated; here it stays OutOfDate, by the SVN it was
launched with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from strongroom.tee.tdx.documents import EnclaveLevel, Level, ModuleIdentity, QeIdentity, TcbInfo
from strongroom.tee.tdx.parse import QeReport, TdReport
from strongroom.tee.tdx.pck import PckExtension
from strongroom.tee.tdx.steps import Doubt, require

REVOKED = "Revoked"
SGX_DEBUG = 0x02

# A status is a set of shortcomings; worst-of is their union (out of date makes hardening moot, revoked makes all moot).
_SHORTCOMINGS: dict[str, frozenset[str]] = {
    "UpToDate": frozenset(),
    "SWHardeningNeeded": frozenset({"hardening"}),
    "ConfigurationNeeded": frozenset({"configuration"}),
    "ConfigurationAndSWHardeningNeeded": frozenset({"configuration", "hardening"}),
    "OutOfDate": frozenset({"old"}),
    "OutOfDateConfigurationNeeded": frozenset({"old", "configuration"}),
    REVOKED: frozenset({"revoked"}),
}
_NAMES = {shortcomings: name for name, shortcomings in _SHORTCOMINGS.items()}


def merge(levels: Iterable[Level]) -> Level:
    """Worst status, every advisory once (sorted), oldest date. `levels` must not be empty."""
    found = tuple(levels)
    shortcomings = frozenset[str]().union(*(_SHORTCOMINGS[level.status] for level in found))
    if "revoked" in shortcomings:
        shortcomings = frozenset({"revoked"})
    elif "old" in shortcomings:
        shortcomings -= {"hardening"}
    advisories = tuple(sorted({advisory for level in found for advisory in level.advisories}))
    return Level(_NAMES[shortcomings], advisories, min(level.date for level in found))


def platform_level(info: TcbInfo, pck: PckExtension, report: TdReport) -> Level:
    """The first level, in Intel's order, whose every component the platform reaches. `Doubt` if none, or Revoked.

    TEE_TCB_SVN counts from index 0 if its byte 1 (the module's generation) is 0, else from index 2: the module is
    judged apart.
    """
    start = 2 if report.tee_tcb_svn[1] else 0
    for candidate in info.levels:
        if (
            _reaches(pck.components, candidate.sgx)
            and pck.pcesvn >= candidate.pcesvn
            and _reaches(report.tee_tcb_svn[start:], candidate.tdx[start:])
        ):
            return _not_revoked(candidate.level, "the platform")
    raise Doubt("the platform reaches no TCB level")


def module_level(info: TcbInfo, report: TdReport) -> Level | None:
    """The level of the TDX module, or None for the first generation, which the platform's level includes.

    Raises `Doubt` for a module of another signer, other attributes or unknown generation, without a level, or Revoked.
    """
    svn, generation = report.tee_tcb_svn[0], report.tee_tcb_svn[1]
    identity = _module_identity(info, generation)
    require(report.mrsignerseam == identity.mrsigner, "the TDX module was signed by somebody else")
    require(
        _masked(report.seamattributes, identity.attributes_mask)
        == _masked(identity.attributes, identity.attributes_mask),
        "the TDX module has other attributes",
    )
    return _enclave_level(identity.levels, svn, "the TDX module") if generation else None


def check_qe_identity(identity: QeIdentity, report: QeReport) -> None:
    """Return if `report` is of the quoting enclave that Intel names, not in debug mode. Raises `Doubt`."""
    require(report.mrsigner == identity.mrsigner, "the quoting enclave was signed by somebody else")
    require(report.isvprodid == identity.isvprodid, f"the quoting enclave is product {report.isvprodid}")
    require(
        _masked(report.miscselect, identity.miscselect_mask) == _masked(identity.miscselect, identity.miscselect_mask),
        "the quoting enclave has another MISCSELECT",
    )
    require(
        _masked(report.attributes, identity.attributes_mask) == _masked(identity.attributes, identity.attributes_mask),
        "the quoting enclave has other attributes",
    )
    require(not report.attributes[0] & SGX_DEBUG, "the quoting enclave is in debug mode")


def qe_level(identity: QeIdentity, report: QeReport) -> Level:
    """The level of the quoting enclave. Raises `Doubt` if there is none, or Revoked."""
    return _enclave_level(identity.levels, report.isvsvn, "the quoting enclave")


def _module_identity(info: TcbInfo, generation: int) -> ModuleIdentity:
    if generation == 0:
        return info.module
    name = f"TDX_{generation:02X}"
    found = [identity for identity in info.modules if identity.id.upper() == name]
    require(len(found) == 1, f"the collateral knows no TDX module {name}")
    return found[0]


def _enclave_level(levels: Sequence[EnclaveLevel], isvsvn: int, what: str) -> Level:
    reached = next((candidate.level for candidate in levels if isvsvn >= candidate.isvsvn), None)
    if reached is None:
        raise Doubt(f"{what} reaches no TCB level")
    return _not_revoked(reached, what)


def _not_revoked(level: Level, what: str) -> Level:
    require(level.status != REVOKED, f"{what} is revoked")
    return level


def _reaches(have: Sequence[int], needed: Sequence[int]) -> bool:
    return all(own >= least for own, least in zip(have, needed, strict=True))


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(byte & keep for byte, keep in zip(value, mask, strict=True))
