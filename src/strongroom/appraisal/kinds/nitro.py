"""AWS Nitro Enclaves: what an owner may want of an enclave, and whether its host may look inside.

Knows: which claim each requirement is about; that a debug enclave measures nothing (AWS "Verifying the root of trust":
its registers are zeros). Does not know: signatures. The registers of the image are PCR0, PCR1 and PCR2; events of run
time are extended into none, so what the measured image bound into its statement counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.appraisal.kinds.kind import Kind, chosen, claim, without_log
from strongroom.appraisal.pile import Pile
from strongroom.crypto import x509
from strongroom.records.evidence import AwsCollateral, Collateral
from strongroom.records.policy.nitro import NitroPolicy
from strongroom.records.verdict import Check, Level, failed, judged, not_run
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.nitro import parse_document, verify
from strongroom.tee.nitro.verify import identity, measurements

REGISTERS = ("pcr0", "pcr1", "pcr2")


def judge(quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """A bare Nitro document, with AWS's CRLs where there are any. Raises `MalformedEvidence`."""
    without_log(log)
    return verify(parse_document(quote), collateral.aws, anchors, now)


def stated(quote: bytes) -> dict[str, str | int]:
    """What a document says, unjudged. Raises `MalformedEvidence`."""
    document = parse_document(quote)
    return {**identity(document), **measurements(document)}


def gather(quote: bytes, pile: Pile) -> Collateral:
    """The newest CRL of each CA in the document's bundle, where there is one. Raises `MalformedEvidence`."""
    whole = pile.known("aws")
    if isinstance(whole, AwsCollateral):
        return Collateral(aws=whole)
    issuers = [x509.load_certificate(der) for der in parse_document(quote).cabundle]
    return Collateral(aws=AwsCollateral(tuple(crl for issuer in issuers if (crl := pile.crl_of(issuer)))))


def wanted(genuine: Genuine, asked: NitroPolicy | None) -> list[Check]:
    """One check a requirement; a claim that is not there makes its check not-run."""
    if asked is None:
        return [failed("policy.nitro", "the policy admits no Nitro evidence")]
    checks = [
        claim(genuine, f"policy.nitro.{name}", name, getattr(asked, name))
        for name in ("pcr3", "pcr4", "pcr8", "nonce", "revocation")
    ]
    checks.append(claim(genuine, "policy.nitro.module", "module_id", asked.module))
    checks.append(chosen(exposed(genuine)[0], "policy.nitro.debug", asked.debug, closed="0", open_="1"))
    age = genuine.claims.get("age_seconds")
    if isinstance(age, int):
        checks.append(
            judged("policy.nitro.maximum_age", age <= asked.maximum_age, f"{age}, at most {asked.maximum_age}")
        )
    else:
        checks.append(not_run("policy.nitro.maximum_age", "the document has no age"))
    return checks


def exposed(genuine: Genuine) -> list[Check]:
    """Whether the enclave runs in debug mode, in which its host reads along."""
    registers = {name: genuine.claims.get(name) for name in REGISTERS}
    if not all(isinstance(value, str) and value for value in registers.values()):
        return [not_run("nitro.debug", "the document has no registers that hold")]
    zero = [name for name, value in registers.items() if not str(value).strip("0")]
    return [judged("nitro.debug", not zero, f"{', '.join(zero)} zero" if zero else "the image is measured")]


NITRO = Kind(
    name="nitro",
    level=Level.CONFIDENTIAL,
    registers=REGISTERS,
    runtime=None,
    launch_spec=None,
    machine=("instance",),
    judge=judge,
    stated=stated,
    gather=gather,
    wanted=lambda genuine, policy: wanted(genuine, policy.nitro),
    exposed=exposed,
)
