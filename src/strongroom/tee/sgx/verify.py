"""Is it genuine? The whole ordered verification of an SGX quote, offline, at a given time, under given anchors.

Knows: the steps of `dcap.procedure` by which a quote is genuine, then (10) the TCB level of the platform. Does not know:
what anyone wants of the enclave (`appraisal`), where collateral comes from, what time it is. A claim is made only if the
steps that vouch for it passed: without a quote signature there are no measurements. A debug enclave is genuine: its
attributes are claims, and policy refuses it.
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
from strongroom.tee.sgx.parse import SgxQuote
from strongroom.tee.steps import Outcome, Steps

KIND = "sgx"
FAMILY = Family(KIND, documents.SGX, documents.QE)

# Bits of ATTRIBUTES.FLAGS (Intel SDM volume 3D, section ATTRIBUTES).
DEBUG, MODE64, PROVISION_KEY, EINITTOKEN_KEY, KSS = 1, 2, 4, 5, 7
FLAGS_BYTES = 8


def verify(quote: SgxQuote, collateral: IntelCollateral | None, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """Judge `quote` with `collateral` under `anchors` at `now` (Unix seconds). Never raises: every doubt is a check.

    A quote that names its platform by PPID only is judged with the PCK chain of the collateral.
    """
    found = procedure.verify(FAMILY, quote, collateral, anchors, now)
    standing = found.rate(None, lambda steps, qe: _rate(steps, found, qe))
    return found.genuine(standing, lambda: measurements(quote))


def _rate(steps: Steps, found: Found, qe: Outcome[Level]) -> Standing | None:
    """Step (10): the levels of platform and quoting enclave; None unless both were found."""
    info, pck = found.vouched.family, found.vouched.extension
    platform = steps.run(
        "sgx.tcb.platform",
        lambda: levels.platform_level(info.value, pck.value),
        info,
        found.signature,
        describe=lambda level: level.status,
    )
    if not (platform.holds and qe.holds):
        return None
    parts = {"platform": platform.value, "qe": qe.value}
    return Standing.of(parts, levels.merge(parts.values()))


def measurements(quote: SgxQuote) -> dict[str, str | int]:
    """What the body of a quote says, as claims. Attribute bits are "0" or "1"; identities with KSS are zeros without."""
    report = quote.body
    flags = int.from_bytes(report.attributes[:FLAGS_BYTES], "little")
    return {
        "quote_version": quote.header.version,
        "mrenclave": report.mrenclave.hex(),
        "mrsigner": report.mrsigner.hex(),
        "isvprodid": report.isvprodid,
        "isvsvn": report.isvsvn,
        "isv_family_id": report.isvfamilyid.hex(),
        "isv_ext_prod_id": report.isvextprodid.hex(),
        "config_id": report.configid.hex(),
        "config_svn": report.configsvn,
        "attributes": report.attributes[:FLAGS_BYTES].hex(),
        "xfrm": report.attributes[FLAGS_BYTES:].hex(),
        "miscselect": report.miscselect.hex(),
        "debug": str(flags >> DEBUG & 1),
        "mode64": str(flags >> MODE64 & 1),
        "provision_key": str(flags >> PROVISION_KEY & 1),
        "einittoken_key": str(flags >> EINITTOKEN_KEY & 1),
        "kss": str(flags >> KSS & 1),
        "report_data": report.reportdata.hex(),
    }
