"""AMD SEV-SNP: what an owner may want of a guest, and whether its host may look inside.

Knows: which claim each requirement is about, and that a minimum holds for every TCB version of a report. Does not know:
signatures, layouts of reports. AMD publishes no status of a TCB, so the minima of a policy are the only judgement of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.x509 import Certificate

from strongroom.appraisal.gather import gather_amd
from strongroom.appraisal.kinds.kind import Kind, claim, least, without_log
from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import Collateral
from strongroom.records.policy.snp import SnpMinimum, SnpPolicy
from strongroom.records.verdict import Check, Level, failed, judged, not_run, passed
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.snp import parse_report, verify
from strongroom.tee.snp.claims import TCBS, of_report
from strongroom.tee.snp.leaf import parse_leaf
from strongroom.tee.snp.products import PARTS, of_cpuid
from strongroom.tee.snp.verify import SIGNERS

REQUIREMENTS = (
    "debug", "migrate_ma", "smt", "single_socket", "cxl", "mem_aes_256_xts", "rapl_dis", "ciphertext_hiding",
    "page_swap_disable", "platform_smt", "tsme", "ecc", "platform_rapl_dis", "platform_ciphertext_hiding",
    "alias_check_complete", "iommu_write_safe", "tio", "vmpl", "provisional", "signing_key", "csp_id", "family_id",
    "image_id", "id_key_digest", "author_key_digest",
)  # fmt: skip
"""The members of the policy that are requirements; each is about the claim of its own name."""
FIRMWARES = ("firmware_current", "firmware_committed")
VECTORS = ("mitigations_launch", "mitigations_current")
MISSING = "the evidence makes no such claim"


def judge(quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """An SEV-SNP report, with AMD's collateral. Raises `MalformedEvidence`."""
    without_log(log)
    return verify(parse_report(quote), collateral.amd, anchors, now)


def stated(quote: bytes) -> dict[str, str | int]:
    """What a report says, unjudged. Raises `MalformedEvidence`."""
    report = parse_report(quote)
    product = of_cpuid(*report.cpuid[:2]) if report.cpuid is not None else None
    return {**of_report(report, product), "chip_id": report.chip_id.hex() if any(report.chip_id) else ""}


def gather(quote: bytes, pile: Pile) -> Collateral:
    """What AMD signs about the key that the report says signed it. Raises `MalformedEvidence`."""
    report = parse_report(quote)
    name = SIGNERS.get(report.signing_key)

    def of_this_chip(certificate: Certificate) -> bool:
        try:
            hwid = parse_leaf(certificate).hwid
        except MalformedEvidence:
            return False
        return hwid is not None and hwid.ljust(len(report.chip_id), b"\0") == report.chip_id

    return Collateral(amd=gather_amd(pile, name, of_this_chip) if name is not None else None)


def wanted(genuine: Genuine, asked: SnpPolicy | None) -> list[Check]:
    """One check a requirement; a claim that is not there makes its check not-run."""
    if asked is None:
        return [failed("policy.snp", "the policy admits no SEV-SNP evidence")]
    return [
        *(claim(genuine, f"policy.snp.{name}", name, getattr(asked, name)) for name in REQUIREMENTS),
        least(genuine, "policy.snp.guest_svn", "guest_svn", asked.guest_svn_minimum),
        _version(genuine, "policy.snp.guest_abi", ("guest_abi",), asked.guest_abi_minimum),
        *_minima(genuine, asked),
    ]


def exposed(genuine: Genuine) -> list[Check]:
    """Whether the host may debug the guest, and so read all of its memory; or have it moved by a migration agent."""
    return [
        judged(f"snp.{name}", genuine.claims[name] == 0, f"bit {bit} of the guest's policy")
        if name in genuine.claims
        else not_run(f"snp.{name}", "the report has no policy that holds")
        for name, bit in (("debug", 19), ("migrate_ma", 18))
    ]


def _minima(genuine: Genuine, asked: SnpPolicy) -> list[Check]:
    """Whether the product is accepted, and reaches the least that is asked of it."""
    names = (*(f"policy.snp.tcb.{part}" for part in PARTS), "policy.snp.firmware", "policy.snp.mitigations")
    product = genuine.claims.get("product")
    if not isinstance(product, str):
        return [not_run(name, MISSING) for name in ("policy.snp.product", *names)]
    minimum = asked.minimum.get(product)
    if minimum is None:
        check = failed("policy.snp.product", f"{product}; accepted: {', '.join(sorted(asked.minimum))}")
        return [check, *(not_run(name, f"the policy asks nothing of {product}") for name in names)]
    return [
        passed("policy.snp.product", product),
        *(_part(genuine, part, getattr(minimum, part)) for part in PARTS),
        _version(genuine, "policy.snp.firmware", FIRMWARES, minimum.firmware),
        _mitigations(genuine, minimum),
    ]


def _part(genuine: Genuine, part: str, minimum: int) -> Check:
    """One part of all four TCB versions. A product whose TCB versions hold and lack the part is asked for 0 of it."""
    identifier = f"policy.snp.tcb.{part}"
    levels = {name: genuine.claims.get(f"tcb_{name}_{part}") for name in TCBS}
    if part == "fmc" and minimum == 0 and set(levels.values()) == {None}:
        return passed(identifier, f"{genuine.claims['product']} has none, and none is asked for")
    found = [level for level in levels.values() if isinstance(level, int)]
    if len(found) != len(TCBS):
        return not_run(identifier, MISSING)
    said = ", ".join(f"{name} {level}" for name, level in levels.items())
    return judged(identifier, min(found) >= minimum, f"{said}; at least {minimum}")


def _version(genuine: Genuine, identifier: str, names: Sequence[str], minimum: str) -> Check:
    """Whether each of the claims `names`, numbers joined by dots, is `minimum` or newer."""
    found = [genuine.claims.get(name) for name in names]
    said = [version for version in found if isinstance(version, str)]
    if len(said) != len(names):
        return not_run(identifier, MISSING)
    holds = all(_numbers(version) >= _numbers(minimum) for version in said)
    return judged(identifier, holds, f"{', '.join(said)}; at least {minimum}")


def _mitigations(genuine: Genuine, minimum: SnpMinimum) -> Check:
    """Whether both mitigation vectors have all the bits that are asked for."""
    identifier = "policy.snp.mitigations"
    if minimum.mitigations == 0:
        return passed(identifier, "none is asked for")
    found = [genuine.claims.get(name) for name in VECTORS]
    vectors = [int(vector, 16) for vector in found if isinstance(vector, str)]
    if len(vectors) != len(VECTORS):
        return not_run(identifier, "a report of this version has no mitigation vectors")
    holds = all(vector & minimum.mitigations == minimum.mitigations for vector in vectors)
    said = ", ".join(f"{vector:#x}" for vector in vectors)
    return judged(identifier, holds, f"{said}; at least {minimum.mitigations:#x}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


SNP = Kind(
    name="snp",
    level=Level.CONFIDENTIAL,
    registers=("measurement",),
    runtime=None,
    launch_spec=("host_data", "sha256"),
    machine=("chip_id",),
    judge=judge,
    stated=stated,
    gather=gather,
    wanted=lambda genuine, policy: wanted(genuine, policy.snp),
    exposed=exposed,
)
