"""Is it what I want? The policy's requirements on a TDX quote whose genuineness another module judged.

Knows: attribute bits (Intel TDX Module ABI, TD_ATTRIBUTES) and which claim each requirement is about. Does not know: signatures.
"""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.records.policy import Requirement, TdxPolicy
from strongroom.records.verdict import Check, judged, not_run
from strongroom.tee.tdx import Genuine

DEBUG, SEPT_VE_DISABLE, MIGRATABLE, PKS, KL, PERFMON = 0, 28, 29, 30, 31, 63
KNOWN_BITS = sum(1 << bit for bit in (DEBUG, SEPT_VE_DISABLE, MIGRATABLE, PKS, KL, PERFMON))
ATTRIBUTES_BYTES = 8


def check_tdx(genuine: Genuine, wanted: TdxPolicy) -> list[Check]:
    """One check a requirement; a claim that is not there makes its check not-run."""
    claims = genuine.claims
    checks = [
        _claim(claims, name, getattr(wanted, name))
        for name in ("mrseam", "mrsignerseam", "xfam", "mrowner", "mrownerconfig", "mr_service_td")
    ]
    checks += _attributes(claims, wanted)
    checks.append(_status(genuine.tcb_status, wanted.tcb_status))
    checks.append(_advisories(genuine, wanted.advisories))
    number = claims.get("tcb_evaluation_number")
    floor = wanted.tcb_evaluation_minimum
    checks.append(
        judged("policy.tdx.tcb_evaluation", number >= floor, f"{number}, at least {floor}")
        if isinstance(number, int)
        else not_run("policy.tdx.tcb_evaluation", "the collateral did not verify")
    )
    return checks


def _claim(claims: Mapping[str, str | int], name: str, wanted: Requirement) -> Check:
    value = claims.get(name)
    if not isinstance(value, str):
        return not_run(f"policy.tdx.{name}", "the quote has no such claim")
    return judged(f"policy.tdx.{name}", wanted.admits(value), wanted.any or value)


def _attributes(claims: Mapping[str, str | int], wanted: TdxPolicy) -> list[Check]:
    names = {"debug": DEBUG, "sept_ve_disable": SEPT_VE_DISABLE, "perfmon": PERFMON, "migratable": MIGRATABLE}
    text = claims.get("td_attributes")
    if not isinstance(text, str) or len(text) != 2 * ATTRIBUTES_BYTES:
        return [not_run(f"policy.tdx.{name}", "the quote has no attributes") for name in (*names, "reserved_bits")]
    bits = int.from_bytes(bytes.fromhex(text), "little")
    checks = [
        judged(
            f"policy.tdx.{name}", getattr(wanted, name).admits(str(bits >> bit & 1)), f"bit {bit} is {bits >> bit & 1}"
        )
        for name, bit in names.items()
    ]
    return [*checks, judged("policy.tdx.reserved_bits", not bits & ~KNOWN_BITS, f"attributes {text}")]


def _status(status: str | None, wanted: Requirement) -> Check:
    if status is None:
        return not_run("policy.tdx.tcb_status", "the platform has no TCB status")
    return judged("policy.tdx.tcb_status", wanted.admits(status), status)


def _advisories(genuine: Genuine, wanted: Requirement) -> Check:
    if genuine.tcb_status is None:
        return not_run("policy.tdx.advisories", "the platform has no TCB status")
    foreign = [advisory for advisory in genuine.advisories if not wanted.admits(advisory)]
    return judged("policy.tdx.advisories", not foreign, ", ".join(foreign) or "none beyond those admitted")
