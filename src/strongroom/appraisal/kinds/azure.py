"""Confidential VMs of Azure: a vTPM's quote whose key a paravisor vouches for, which the hardware measured.

    hardware   the SEV-SNP report or TD quote holds, by its own kind's procedure
    azure.runtime   its report data is the hash of the paravisor's runtime claims; the AK stands in these
    tpm        the vTPM's quote holds under that AK

Knows: how the three are tied together. Does not know: any of their formats. What the verifier chose (nonce, keys) is bound
by the vTPM's quote; the hardware's own report data is spent on the AK. The paravisor's measurement is a reference value,
because the AK is worth what the paravisor is worth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.appraisal.kinds import snp as snp_kind
from strongroom.appraisal.kinds import tdx as tdx_kind
from strongroom.appraisal.kinds import tpm as tpm_kind
from strongroom.appraisal.kinds.above import Claims, both, read_record
from strongroom.appraisal.kinds.kind import Judge, Kind
from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence
from strongroom.records import codec
from strongroom.records.azure import AzureEvidence
from strongroom.records.evidence import Collateral
from strongroom.records.tpm import TpmQuote
from strongroom.records.verdict import Check, Status, judged, not_run
from strongroom.tee import snp, tdx, tpm
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.azure import Runtime, parse_runtime
from strongroom.tee.genuine import NO_CRL, Genuine

SOURCE = "paravisor"
VOUCHED = ("tpm.ak", "tpm.ak.attributes")
"""Checks that rest on the paravisor's word for the key."""


def _read(quote: bytes) -> tuple[AzureEvidence, Runtime, TpmQuote]:
    """The parts; the AK is the paravisor's, and evidence may not bring another. Raises `MalformedEvidence`."""
    evidence = read_record(AzureEvidence, quote, "Azure")
    runtime = parse_runtime(evidence.runtime)
    key = RSAPublicNumbers(runtime.exponent, runtime.modulus).public_key()
    ak = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if evidence.tpm.ak not in (b"", ak):
        raise MalformedEvidence("the vTPM's quote comes with another key than the runtime claims")
    return evidence, runtime, dataclasses.replace(evidence.tpm, ak=ak)


def _joined(
    name: str, hardware: Genuine, runtime: Runtime, told: TpmQuote, anchors: Sequence[TrustAnchor], now: int
) -> Genuine:
    """Tie the hardware's verdict to the vTPM's quote."""
    tied = _check_runtime(hardware, runtime)
    vouched = None
    quote = tpm.read_quote(told)
    if tied.status is Status.PASS and _holds_but_for_lists(hardware) and hardware.root_class is not None:
        vouched = tpm.AkTrust(quote.ak.name, hardware.root_class, SOURCE, restricted=True)
    above = tpm.verify(quote, None, anchors, now, vouched=vouched)
    checks = above.checks
    if vouched is None:
        reason = "needs the hardware's report and azure.runtime"
        checks = tuple(not_run(c.id, reason) if c.id in VOUCHED else c for c in checks)
    told_of_vm: Claims = {**runtime.claims, "runtime_user_data": runtime.user_data}
    claims = told_of_vm if tied.status is Status.PASS else {}
    claims |= {n: v for n, v in hardware.claims.items() if n != "report_data"}
    claims |= above.claims  # last, because nothing that the paravisor says may stand for what was measured
    return Genuine(
        kind=name,
        checks=(*hardware.checks, tied, *checks),
        root_class=hardware.root_class,
        tcb_status=hardware.tcb_status,
        advisories=hardware.advisories,
        claims=claims,
    )


def _check_runtime(hardware: Genuine, runtime: Runtime) -> Check:
    bound = hardware.claims.get("report_data")
    if not isinstance(bound, str):
        return not_run("azure.runtime", "the hardware's report does not hold")
    return judged("azure.runtime", bound == runtime.bound.hex(), "the hardware signed the hash of the runtime claims")


def _holds_but_for_lists(genuine: Genuine) -> bool:
    """Whether all passed, a revocation list that nobody gave aside: policy decides about that one, once, in the end."""
    return bool(genuine.checks) and all(
        check.status is Status.PASS or (check.status is Status.NOT_RUN and check.detail == NO_CRL)
        for check in genuine.checks
    )


def _judge(name: str, verify: Callable[..., Genuine], vendor: str) -> Judge:
    """Azure's evidence above hardware that `verify` judges, with the collateral of `vendor`."""

    def judge(quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
        evidence, runtime, told = _read(quote)
        hardware = verify(evidence.hardware, getattr(collateral, vendor), anchors, now)
        return tpm_kind.explained(_joined(name, hardware, runtime, told, anchors, now), log)

    return judge


def _stated(beneath: Callable[[bytes], Claims]) -> Callable[[bytes], Claims]:
    def stated(quote: bytes) -> Claims:
        evidence, runtime, told = _read(quote)
        said = {name: value for name, value in beneath(evidence.hardware).items() if name != "report_data"}
        return {**runtime.claims, **said, **tpm_kind.stated(codec.encode(told))}

    return stated


def _gather(beneath: Callable[[bytes, Pile], Collateral]) -> Callable[[bytes, Pile], Collateral]:
    return lambda quote, pile: beneath(_read(quote)[0].hardware, pile)


def _kind(name: str, beneath: Kind, register: str, judge: Judge, *, besides: frozenset[str] = frozenset()) -> Kind:
    """A vTPM above hardware of the kind `beneath`, whose `register` measures the paravisor."""
    return both(
        name,
        beneath,
        registers=(register,),
        runtime=tpm_kind.TPM.runtime,
        launch_spec=None,
        judge=judge,
        stated=_stated(beneath.stated),
        gather=_gather(beneath.gather),
        besides=besides,
    )


AZURE_SNP = _kind(
    "az-snp",
    snp_kind.SNP,
    "measurement",
    _judge("az-snp", lambda report, *told: snp.verify(snp.parse_report(report), *told), "amd"),
)
AZURE_TDX = _kind(
    "az-tdx",
    tdx_kind.TDX,
    "mrtd",
    _judge("az-tdx", lambda quote, *told: tdx.verify(tdx.parse_quote(quote), *told), "intel"),
    besides=frozenset({"tdx.sept_ve_disable"}),
)
