"""How a platform of Intel's stands, worked out a second time and more plainly, to hold the verifier against.

Knows: Intel's rules (PCS API v4, Get TDX TCB Info and Get Quoting Enclave Identity; TDX module and relaunch rules of the
quote verification library), on the JSON as it is. Does not know: signatures. What it cannot read it does not judge: None.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from strongroom_sim.certificates import Platform
from strongroom_sim.mutants.mutant import ADVISORIES, STATUS, Said

ORDER = ("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
         "OutOfDateConfigurationNeeded", "Revoked")  # fmt: skip
OLD = {"OutOfDate", "OutOfDateConfigurationNeeded"}
CONFIGURATION = {"ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded"}
QE_DEBUG = 0x02
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration)


@dataclass(frozen=True, slots=True)
class Machine:
    """What is judged: the platform as its certificate says, its quoting enclave's report, and of a TD what its body says.

    `svn` and `svn2` are TEE_TCB_SVN and TEE_TCB_SVN2, `module` MRSIGNERSEAM and SEAMATTRIBUTES; empty where there is none.
    """

    platform: Platform
    enclave: bytes
    svn: bytes = b""
    svn2: bytes = b""
    module: tuple[bytes, bytes] = (b"", b"")


@dataclass(frozen=True, slots=True)
class _Level:
    status: str
    date: str
    advisories: frozenset[str]


def standing(info: Any, identity: Any, machine: Machine, now: int) -> Said | None:
    """What a verdict must say of the TCB, or None if it must be a refusal."""
    try:
        return _standing(info, identity, machine, now)
    except _UNREADABLE:
        return None


def _standing(info: Any, identity: Any, machine: Machine, now: int) -> Said | None:
    tdx = bool(machine.svn)
    right = (
        _current(info, now)
        and _current(identity, now)
        and (info["id"], info["version"], info["tcbType"]) == ("TDX" if tdx else "SGX", 3, 0)
        and (identity["id"], identity["version"]) == ("TD_QE" if tdx else "QE", 2)
        and bytes.fromhex(info["fmspc"]) == machine.platform.fmspc
        and bytes.fromhex(info["pceId"]) == machine.platform.pceid
        and _is_enclave(identity, machine.enclave)
    )
    if not right:
        return None
    enclave = _reached(identity["tcbLevels"], int.from_bytes(machine.enclave[258:260], "little"))
    platform = _platform(info, machine.platform, machine.svn)
    if tdx and not _is_module(info, machine):
        return None
    module = _module(info, machine.svn) if tdx else None
    found = [platform, enclave, *([module] if module else [])]
    launch = _worst(found)
    said: dict[str, str | int | None] = {
        "tcb_status_platform": platform.status,
        "tcb_status_qe": enclave.status,
        "tcb_status_module": module.status if module else None,
        "tcb_status_current": None,
    }
    merged = launch
    if machine.svn2:
        later = _module(info, machine.svn2)
        now_found = [_platform(info, machine.platform, machine.svn2), enclave, *([later] if later else [])]
        current = _worst(now_found)
        said["tcb_status_current"] = current.status
        merged = _converged(launch, current)
    said["tcb_date"] = merged.date
    said["tcb_evaluation_number"] = min(info["tcbEvaluationDataNumber"], identity["tcbEvaluationDataNumber"])
    return {**said, STATUS: merged.status, ADVISORIES: ", ".join(sorted(merged.advisories))}


def _current(document: Any, now: int) -> bool:
    issued, until = (datetime.fromisoformat(document[name]).timestamp() for name in ("issueDate", "nextUpdate"))
    return issued <= now <= until


def _is_enclave(identity: Any, report: bytes) -> bool:
    return (
        bytes.fromhex(identity["mrsigner"]) == report[128:160]
        and identity["isvprodid"] == int.from_bytes(report[256:258], "little")
        and _same(identity["miscselectMask"], identity["miscselect"], report[16:20])
        and _same(identity["attributesMask"], identity["attributes"], report[48:64])
        and not report[48] & QE_DEBUG
    )


def _same(mask: str, stated: str, found: bytes) -> bool:
    pairs = zip(bytes.fromhex(mask), bytes.fromhex(stated), found, strict=True)
    return all(there & keep == wanted & keep for keep, wanted, there in pairs)


def _is_module(info: Any, machine: Machine) -> bool:
    stated = _identity(info, machine.svn[1]) if machine.svn[1] else info["tdxModule"]
    signer, attributes = machine.module
    return bytes.fromhex(stated["mrsigner"]) == signer and _same(
        stated["attributesMask"], stated["attributes"], attributes
    )


def _identity(info: Any, generation: int) -> Any:
    (found,) = (it for it in info["tdxModuleIdentities"] if it["id"].upper() == f"TDX_{generation:02X}")
    return found


def _module(info: Any, svn: bytes) -> _Level | None:
    return _reached(_identity(info, svn[1])["tcbLevels"], svn[0]) if svn[1] else None


def _platform(info: Any, platform: Platform, svn: bytes) -> _Level:
    start = 2 if svn and svn[1] else 0
    for level in info["tcbLevels"]:
        tcb = level["tcb"]
        cpu = [item["svn"] for item in tcb["sgxtcbcomponents"]]
        td = [item["svn"] for item in tcb["tdxtcbcomponents"]] if svn else []
        enough = (
            all(own >= least for own, least in zip(platform.components, cpu, strict=True))
            and platform.pcesvn >= tcb["pcesvn"]
            and all(own >= least for own, least in zip(svn[start:], td[start:], strict=True))
        )
        if enough:
            return _level(level)
    raise ValueError


def _reached(levels: Any, svn: int) -> _Level:
    return _level(next(level for level in levels if svn >= level["tcb"]["isvsvn"]))


def _level(level: Any) -> _Level:
    """The level that counts, which is never one that is revoked or unknown."""
    if ORDER.index(level["tcbStatus"]) == len(ORDER) - 1:
        raise ValueError
    return _Level(level["tcbStatus"], level["tcbDate"], frozenset(level.get("advisoryIDs", ())))


def _worst(found: list[_Level]) -> _Level:
    statuses = {level.status for level in found}
    configuration, old = bool(statuses & CONFIGURATION), bool(statuses & OLD)
    hardening = bool(statuses & {"SWHardeningNeeded", "ConfigurationAndSWHardeningNeeded"})
    if old:
        status = "OutOfDateConfigurationNeeded" if configuration else "OutOfDate"
    elif configuration:
        status = "ConfigurationAndSWHardeningNeeded" if hardening else "ConfigurationNeeded"
    else:
        status = "SWHardeningNeeded" if hardening else "UpToDate"
    advisories = frozenset[str]().union(*(level.advisories for level in found))
    return _Level(status, min(level.date for level in found), advisories)


def _converged(launch: _Level, current: _Level) -> _Level:
    both = _worst([launch, current])
    if launch.status in OLD and current.status not in OLD:
        needed = launch.status in CONFIGURATION or current.status in CONFIGURATION
        status = "TDRelaunchAdvisedConfigurationNeeded" if needed else "TDRelaunchAdvised"
        return _Level(status, both.date, both.advisories)
    return both
