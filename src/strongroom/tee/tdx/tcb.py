"""Which level a platform and its TDX module reach, as launched and as running now, and what that makes together.

Knows: Intel's rules for TDX (PCS API v4, Get TDX TCB Info; Intel's quote verification library, evaluation of
TEE_TCB_SVN and TEE_TCB_SVN2, relaunch check). Does not know: signatures, or whether a status is good enough
(`appraisal`); what it shares with SGX is in `dcap.levels`.

A TD report 1.5 says two SVNs: of the module that launched the TD (TEE_TCB_SVN), and of the one that runs it now
(TEE_TCB_SVN2), after an update that kept the TD alive. If the first is out of date and the second is not, the TD should
be launched anew: TDRelaunchAdvised. In every other case the worst of both counts; Intel's library then looks at the
launch alone, so a module that is out of date now would go unseen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from strongroom.tee.dcap import levels
from strongroom.tee.dcap.documents import Level, ModuleIdentity, PlatformLevel, TcbInfo
from strongroom.tee.dcap.levels import SHORTCOMINGS, enclave_level, merge, same_under
from strongroom.tee.dcap.pck import PckExtension
from strongroom.tee.steps import require
from strongroom.tee.tdx.parse import TdReport

RELAUNCH = "TDRelaunchAdvised"
RELAUNCH_CONFIGURATION = "TDRelaunchAdvisedConfigurationNeeded"
_OLD = frozenset({"OutOfDate", "OutOfDateConfigurationNeeded"})


def platform_level(info: TcbInfo, pck: PckExtension, tee_tcb_svn: bytes) -> Level:
    """The level that platform and TDX components reach. Raises `Doubt` if there is none, or Revoked.

    TEE_TCB_SVN (16 bytes) counts from index 0 if its byte 1 (the module's generation) is 0, else from index 2: the
    module is judged apart.
    """
    return levels.platform_level(info, pck, _components(tee_tcb_svn))


def check_module(info: TcbInfo, report: TdReport) -> None:
    """Return if the module that reports is one that Intel names: its signer and attributes. Raises `Doubt`."""
    identity = _module_identity(info, report.tee_tcb_svn[1])
    require(report.mrsignerseam == identity.mrsigner, "the TDX module was signed by somebody else")
    require(
        same_under(identity.attributes_mask, report.seamattributes, identity.attributes),
        "the TDX module has other attributes",
    )


def module_level(info: TcbInfo, tee_tcb_svn: bytes) -> Level | None:
    """The level of the TDX module, or None for the first generation, which the platform's level includes.

    Raises `Doubt` for a module of unknown generation, without a level, or Revoked.
    """
    svn, generation = tee_tcb_svn[0], tee_tcb_svn[1]
    identity = _module_identity(info, generation)
    return enclave_level(identity.levels, svn, "the TDX module") if generation else None


def current_level(info: TcbInfo, pck: PckExtension, report: TdReport, qe: Level) -> Level | None:
    """What platform, module and quoting enclave reach by TEE_TCB_SVN2; None for a TD report 1.0, which has none.

    Raises `Doubt` if one of them reaches no level, or a Revoked one.
    """
    svn = report.tee_tcb_svn2
    if svn is None:
        return None
    found = platform_level(info, pck, svn), module_level(info, svn), qe
    return merge(level for level in found if level is not None)


def converge(launch: Level, current: Level | None) -> Level:
    """One level of what was launched and what runs now; advisories of both, the older date."""
    if current is None:
        return launch
    both = merge((launch, current))
    if launch.status in _OLD and current.status not in _OLD:
        needed = "configuration" in SHORTCOMINGS[launch.status] | SHORTCOMINGS[current.status]
        return replace(both, status=RELAUNCH_CONFIGURATION if needed else RELAUNCH)
    return both


def _components(tee_tcb_svn: bytes) -> Callable[[PlatformLevel], bool]:
    start = 2 if tee_tcb_svn[1] else 0
    have = tee_tcb_svn[start:]
    return lambda candidate: levels.reaches(have, candidate.tdx[start:])


def _module_identity(info: TcbInfo, generation: int) -> ModuleIdentity:
    if generation == 0 and info.module is not None:
        return info.module
    name = f"TDX_{generation:02X}"
    found = [identity for identity in info.modules if identity.id.upper() == name]
    require(len(found) == 1, f"the collateral knows no TDX module {name}")
    return found[0]
