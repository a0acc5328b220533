"""Is it genuine? The whole ordered verification of a TDX quote, offline, at a given time, under given anchors.

Knows: the steps of `dcap.procedure` by which a quote is genuine, then (10) the TCB levels of the platform, of the TDX
module, and of what runs now (TEE_TCB_SVN2 of a TD report 1.5). Does not know: what anyone wants of the TD (`appraisal`),
where collateral comes from, what time it is. A claim is made only if the steps that vouch for it passed: without a quote
signature there are no measurements. A debug TD is genuine: its attributes are a claim, and policy refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.records.evidence import IntelCollateral
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.dcap import documents, levels, procedure
from strongroom.tee.dcap.documents import Level
from strongroom.tee.dcap.levels import Standing
from strongroom.tee.dcap.procedure import Family, Found
from strongroom.tee.genuine import Genuine
from strongroom.tee.steps import Outcome, Steps
from strongroom.tee.tdx import tcb
from strongroom.tee.tdx.parse import Quote, ServiceTds, TdReport

KIND = "tdx"
FAMILY = Family(KIND, documents.TDX, documents.TD_QE)


def verify(quote: Quote, collateral: IntelCollateral | None, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """Judge `quote` with `collateral` under `anchors` at `now` (Unix seconds). Never raises: every doubt is a check."""
    found = procedure.verify(FAMILY, quote, collateral, anchors, now)
    body = quote.body
    decisive = (body.tee_tcb_svn, body.tee_tcb_svn2, body.mrsignerseam, body.seamattributes)
    standing = found.rate(decisive, lambda steps, qe: _rate(steps, found, body, qe))
    return found.genuine(standing, lambda: measurements(quote))


def _rate(steps: Steps, found: Found, body: TdReport, qe: Outcome[Level]) -> Standing | None:
    """Step (10). A module of the first generation has no level of its own; None unless all levels were found."""
    info, pck = found.vouched.family, found.vouched.extension

    def module_level() -> tuple[Level | None]:
        tcb.check_module(info.value, body)
        return (tcb.module_level(info.value, body.tee_tcb_svn),)

    platform = steps.run(
        "tdx.tcb.platform",
        lambda: tcb.platform_level(info.value, pck.value, body.tee_tcb_svn),
        info,
        found.signature,
        describe=lambda level: level.status,
    )
    module = steps.run(
        "tdx.tcb.module",
        module_level,
        info,
        found.signature,
        describe=lambda level: level[0].status if level[0] else "judged with the platform",
    )
    current = steps.run(
        "tdx.tcb.current",
        lambda: (tcb.current_level(info.value, pck.value, body, qe.value),),
        platform,
        module,
        qe,
        describe=lambda level: level[0].status if level[0] else "a TD report 1.0 knows its launch only",
    )
    if not current.holds:
        return None
    named = {"platform": platform.value, "module": module.value[0], "qe": qe.value, "current": current.value[0]}
    parts = {name: level for name, level in named.items() if level is not None}
    launch = levels.merge(level for name, level in parts.items() if name != "current")
    return Standing.of(parts, tcb.converge(launch, parts.get("current")))


def measurements(quote: Quote) -> dict[str, str | int]:
    """What the body of a quote says, as claims."""
    report = quote.body
    claims: dict[str, str | int] = {
        "quote_version": quote.header.version,
        "mrtd": report.mrtd.hex(),
        "rtmr0": report.rtmr0.hex(),
        "rtmr1": report.rtmr1.hex(),
        "rtmr2": report.rtmr2.hex(),
        "rtmr3": report.rtmr3.hex(),
        "mrconfigid": report.mrconfigid.hex(),
        "mrowner": report.mrowner.hex(),
        "mrownerconfig": report.mrownerconfig.hex(),
        "mrseam": report.mrseam.hex(),
        "mrsignerseam": report.mrsignerseam.hex(),
        "seam_attributes": report.seamattributes.hex(),
        "td_attributes": report.tdattributes.hex(),
        "xfam": report.xfam.hex(),
        "mr_service_td": report.mrservicetd.hex() if report.mrservicetd else "",
        "tee_tcb_svn": report.tee_tcb_svn.hex(),
        "tee_tcb_svn2": report.tee_tcb_svn2.hex() if report.tee_tcb_svn2 else "",
        "report_data": report.reportdata.hex(),
    }
    if report.service_tds is not None:
        claims |= _service_tds(report.service_tds)
    return claims


def _service_tds(tds: ServiceTds) -> dict[str, str | int]:
    return {
        "vmid": tds.vmid,
        "td_id": tds.td_id.hex(),
        "devinfo": tds.devinfo.hex(),
        "service_td_init_hash": tds.init_hash.hex(),
        "service_td_init_attributes": tds.init_attributes.hex(),
        "service_td_init_cpusvn": tds.init_cpusvn.hex(),
        "service_td_init_tee_tcb_svn": tds.init_tee_tcb_svn.hex(),
        "service_td_init_model": tds.init_model.hex(),
        "service_td_current_hash": tds.current_hash.hex(),
        "service_td_current_attributes": tds.current_attributes.hex(),
    }
