"""Arm CCA: what an owner may want of a realm and of the platform beneath it, and whether anybody may look inside.

Knows: which claim each requirement is about; the life cycle in which a platform is not debugged (RMM specification
A7.2.3.2.6). Does not know: signatures.

The register of the image is the RIM. Run-time events are extended into REM0, which is measurement 1 of
RSI_MEASUREMENT_EXTEND (0 is the RIM), with SHA-512: a realm hashes with SHA-256
or SHA-512, as it was created, and one that chose the former has registers of another size, which no replay equals. The
launch specification is in the realm personalization value: 64 bytes that whoever creates a realm gives and every
token repeats, so SHA-512 as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.appraisal.gather import gather_arm
from strongroom.appraisal.kinds.kind import Kind, Register, chosen, claim, without_log
from strongroom.appraisal.pile import Pile
from strongroom.records.evidence import Collateral
from strongroom.records.policy.cca import CcaPolicy
from strongroom.records.policy.requirement import Requirement
from strongroom.records.verdict import Check, Level, failed, judged, not_run
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.cca import parse_token, verify
from strongroom.tee.cca.verify import platform_claims, realm_claims
from strongroom.tee.genuine import Genuine

SECURED = range(0x3000, 0x3100)


def judge(quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """A CCA token, with the key of its platform. Raises `MalformedEvidence`."""
    without_log(log)
    return verify(parse_token(quote), collateral.arm, anchors, now)


def stated(quote: bytes) -> dict[str, str | int]:
    """What a token says, unjudged. Raises `MalformedEvidence`."""
    token = parse_token(quote)
    return {**platform_claims(token.platform), **realm_claims(token.realm)}


def gather(quote: bytes, pile: Pile) -> Collateral:
    """The key of the platform that the token names. Raises `MalformedEvidence`."""
    platform = parse_token(quote).platform
    return Collateral(arm=gather_arm(pile, platform.implementation_id, platform.instance_id))


def wanted(genuine: Genuine, asked: CcaPolicy | None) -> list[Check]:
    """One check a requirement; a claim that is not there makes its check not-run."""
    if asked is None:
        return [failed("policy.cca", "the policy admits no CCA evidence")]
    checks = [
        claim(genuine, f"policy.cca.{name}", name, getattr(asked, name))
        for name in ("implementation_id", "instance_id", "config", "realm_hash", "rem1", "rem2", "rem3")
    ]
    checks.append(chosen(exposed(genuine)[0], "policy.cca.lifecycle", asked.lifecycle, closed="secured", open_="open"))
    checks.append(_components(genuine, asked.components))
    return checks


def exposed(genuine: Genuine) -> list[Check]:
    """Whether the platform is secured: not being made, not under debug, not retired."""
    lifecycle = genuine.claims.get("lifecycle")
    if not isinstance(lifecycle, int):
        return [not_run("cca.lifecycle", "the token has no life cycle that holds")]
    return [judged("cca.lifecycle", lifecycle in SECURED, f"life cycle {lifecycle:#06x}, secured is 0x3000 to 0x30ff")]


def _components(genuine: Genuine, asked: Requirement) -> Check:
    """Whether every piece of firmware is admitted, and none that is wanted is missing."""
    name = "policy.cca.components"
    count = genuine.claims.get("components")
    if not isinstance(count, int) or count < 1:
        return not_run(name, "the token has no components that hold")
    if asked.any is not None:
        return judged(name, True, f"{count}; {asked.any}")
    found = [str(genuine.claims.get(f"component{index}", "")) for index in range(count)]
    foreign = [component for component in found if component not in asked.one_of]
    missing = {_type(component) for component in asked.one_of} - {_type(component) for component in found}
    if foreign or missing:
        return failed(name, f"not admitted: {foreign[0]}" if foreign else f"missing: {', '.join(sorted(missing))}")
    return judged(name, True, f"{count}, each admitted")


def _type(component: str) -> str:
    return component.rsplit(":", 2)[0]


CCA = Kind(
    name="cca",
    level=Level.CONFIDENTIAL,
    registers=("rim",),
    runtime=Register("rem0", 1, "sha512"),
    launch_spec=("rpv", "sha512"),
    machine=("instance_id",),
    judge=judge,
    stated=stated,
    gather=gather,
    wanted=lambda genuine, policy: wanted(genuine, policy.cca),
    exposed=exposed,
)
