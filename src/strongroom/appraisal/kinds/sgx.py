"""Intel SGX: what an owner may want of an enclave, and whether its host may look inside.

Knows: which claim each requirement is about, and which attribute bits are known (Intel SDM volume 3D, ATTRIBUTES). Does
not know: signatures. An enclave has no run-time registers and measures no launch specification.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.appraisal.gather import gather_intel
from strongroom.appraisal.kinds.dcap import platform
from strongroom.appraisal.kinds.kind import Kind, bits, claim, least, up_to_date, without_log
from strongroom.appraisal.pile import Pile
from strongroom.records.evidence import Collateral
from strongroom.records.policy.sgx import SgxPolicy
from strongroom.records.verdict import Check, Level, failed, judged, not_run
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.sgx import parse_quote, verify
from strongroom.tee.sgx.verify import DEBUG, EINITTOKEN_KEY, FLAGS_BYTES, KSS, MODE64, PROVISION_KEY, measurements

INIT, CET, AEX_NOTIFY = 0, 6, 10
KNOWN_BITS = sum(1 << bit for bit in (INIT, DEBUG, MODE64, PROVISION_KEY, EINITTOKEN_KEY, CET, KSS, AEX_NOTIFY))
REQUIREMENTS = (
    "debug", "provision_key", "einittoken_key", "kss", "config_id", "mrsigner", "isvprodid", "xfrm", "miscselect",
)  # fmt: skip
"""The members of the policy that are requirements on what the enclave is; each is about the claim of its own name."""


def judge(quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """An SGX quote, with Intel's collateral. Raises `MalformedEvidence`."""
    without_log(log)
    return verify(parse_quote(quote), collateral.intel, anchors, now)


def stated(quote: bytes) -> dict[str, str | int]:
    """What a quote says, unjudged. Raises `MalformedEvidence`."""
    return measurements(parse_quote(quote))


def gather(quote: bytes, pile: Pile) -> Collateral:
    """What Intel signs about the quote's platform. Raises `MalformedEvidence`."""
    return Collateral(intel=gather_intel(pile, parse_quote(quote).pck_chain, "SGX"))


def wanted(genuine: Genuine, asked: SgxPolicy | None) -> list[Check]:
    """One check a requirement; a claim that is not there makes its check not-run."""
    if asked is None:
        return [failed("policy.sgx", "the policy admits no SGX evidence")]
    return [
        *(claim(genuine, f"policy.sgx.{name}", name, getattr(asked, name)) for name in REQUIREMENTS),
        least(genuine, "policy.sgx.config_svn", "config_svn", asked.config_svn_minimum),
        least(genuine, "policy.sgx.isvsvn", "isvsvn", asked.isvsvn_minimum),
        _reserved(genuine),
        *platform(genuine, "policy.sgx", asked),
    ]


def exposed(genuine: Genuine) -> list[Check]:
    """Whether the host may debug the enclave, and so read all of its memory; or use holes long closed."""
    debug = genuine.claims.get("debug")
    found = (
        not_run("sgx.debug", "the quote has no attributes that hold")
        if debug is None
        else judged("sgx.debug", debug == "0", f"attribute bit {DEBUG}")
    )
    return [found, up_to_date(genuine, "sgx.tcb")]


def _reserved(genuine: Genuine) -> Check:
    attributes = bits(genuine, "attributes", FLAGS_BYTES)
    if attributes is None:
        return not_run("policy.sgx.reserved_bits", "the quote has no attributes")
    text = attributes.to_bytes(FLAGS_BYTES, "little").hex()
    return judged("policy.sgx.reserved_bits", not attributes & ~KNOWN_BITS, f"attributes {text}")


SGX = Kind(
    name="sgx",
    level=Level.CONFIDENTIAL,
    registers=("mrenclave",),
    runtime=None,
    launch_spec=None,
    machine=("ppid", "piid"),
    judge=judge,
    stated=stated,
    gather=gather,
    wanted=lambda genuine, policy: wanted(genuine, policy.sgx),
    exposed=exposed,
)
