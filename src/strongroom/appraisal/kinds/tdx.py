"""Intel TDX: what an owner may want of a TD, and whether its host may look inside.

Knows: attribute bits (Intel TDX Module ABI, TD_ATTRIBUTES) and which claim each requirement is about. Does not know:
signatures.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.appraisal.gather import gather_intel
from strongroom.appraisal.kinds.dcap import platform
from strongroom.appraisal.kinds.kind import Kind, Register, bits, claim, up_to_date
from strongroom.appraisal.kinds.logs import with_log
from strongroom.appraisal.pile import Pile
from strongroom.records.evidence import Collateral
from strongroom.records.policy import Policy, TdxPolicy
from strongroom.records.verdict import Check, Level, failed, judged, not_run
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.eventlog import Style
from strongroom.tee.genuine import Genuine
from strongroom.tee.tdx import parse_quote, verify
from strongroom.tee.tdx.verify import measurements

DEBUG, SEPT_VE_DISABLE, MIGRATABLE, PKS, KL, PERFMON = 0, 28, 29, 30, 31, 63
KNOWN_BITS = sum(1 << bit for bit in (DEBUG, SEPT_VE_DISABLE, MIGRATABLE, PKS, KL, PERFMON))
ATTRIBUTES_BYTES = 8
ATTRIBUTES = {
    "debug": DEBUG,
    "sept_ve_disable": SEPT_VE_DISABLE,
    "perfmon": PERFMON,
    "migratable": MIGRATABLE,
    "pks": PKS,
    "kl": KL,
}


def judge(quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """A TDX quote, with Intel's collateral, and the firmware's log. Raises `MalformedEvidence`."""
    return with_log(
        verify(parse_quote(quote), collateral.intel, anchors, now),
        log,
        style=Style.CCEL,
        bank="sha384",
        registers={number: f"rtmr{number}" for number in range(3)},
        growing=(3,),  # a worker's own events
        vouched="tdx.quote.signature",
    )


def stated(quote: bytes) -> dict[str, str | int]:
    """What a quote says, unjudged. Raises `MalformedEvidence`."""
    parsed = parse_quote(quote)
    return {"quote_version": parsed.header.version, **measurements(parsed)}


def gather(quote: bytes, pile: Pile) -> Collateral:
    """What Intel signs about the quote's platform. Raises `MalformedEvidence`."""
    return Collateral(intel=gather_intel(pile, parse_quote(quote).pck_chain, "TDX"))


def wanted(genuine: Genuine, policy: Policy) -> list[Check]:
    """One check a requirement; a claim that is not there makes its check not-run."""
    asked = policy.tdx
    if asked is None:
        return [failed("policy.tdx", "the policy admits no TDX evidence")]
    checks = [
        claim(genuine, f"policy.tdx.{name}", name, getattr(asked, name))
        for name in ("mrseam", "mrsignerseam", "xfam", "mrowner", "mrownerconfig", "mr_service_td")
    ]
    return [*checks, *_attributes(genuine, asked), *platform(genuine, "policy.tdx", asked)]


def exposed(genuine: Genuine) -> list[Check]:
    """Whether the host may look inside: by debugging, faults it injects, counters, another TD; or holes long closed."""
    attributes = bits(genuine, "td_attributes", ATTRIBUTES_BYTES)
    reason = "the quote has no attributes that hold"
    found = [
        judged(f"tdx.{name}", (attributes >> bit & 1) == good, f"TD attribute bit {bit}, good is {good}")
        if attributes is not None
        else not_run(f"tdx.{name}", reason)
        for name, bit, good in (("debug", DEBUG, 0), ("sept_ve_disable", SEPT_VE_DISABLE, 1), ("perfmon", PERFMON, 0))
    ]
    service = genuine.claims.get("mr_service_td")
    found.append(
        judged("tdx.service_td", not service.strip("0"), "a service TD that is bound may take the TD elsewhere")
        if isinstance(service, str)
        else not_run("tdx.service_td", reason)
    )
    return [*found, up_to_date(genuine, "tdx.tcb")]


def _attributes(genuine: Genuine, asked: TdxPolicy) -> list[Check]:
    attributes = bits(genuine, "td_attributes", ATTRIBUTES_BYTES)
    if attributes is None:
        return [not_run(f"policy.tdx.{name}", "the quote has no attributes") for name in (*ATTRIBUTES, "reserved_bits")]
    checks = [
        judged(
            f"policy.tdx.{name}",
            getattr(asked, name).admits(str(attributes >> bit & 1)),
            f"bit {bit} is {attributes >> bit & 1}",
        )
        for name, bit in ATTRIBUTES.items()
    ]
    text = attributes.to_bytes(ATTRIBUTES_BYTES, "little").hex()
    return [*checks, judged("policy.tdx.reserved_bits", not attributes & ~KNOWN_BITS, f"attributes {text}")]


TDX = Kind(
    name="tdx",
    level=Level.CONFIDENTIAL,
    registers=("mrtd", "rtmr0", "rtmr1", "rtmr2"),
    runtime=Register("rtmr3", 3, "sha384"),
    launch_spec=("mrconfigid", "sha384"),
    machine=("ppid", "piid"),
    judge=judge,
    stated=stated,
    gather=gather,
    wanted=wanted,
    exposed=exposed,
)
