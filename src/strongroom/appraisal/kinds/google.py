"""Confidential VMs of Google: hardware and a vTPM that vouch for nothing of each other, tied together by the guest.

    hardware   the SEV-SNP report or TD quote holds, by its own kind's procedure
    tpm        the vTPM's quote holds, under an AK for which a certificate vouches
    gce.hardware     the hardware signed which AK and which quote the guest means
    gce.machine      the AK's certificate is of a machine of Google's, and the one that evidence brings
    gce.technology   the firmware's log, if it is there, names the hardware that signed

Knows: how the two are tied. Does not know: any of their formats. What the verifier chose (nonce, keys) is bound by the vTPM's
quote, and so by the hardware. The registers of the vTPM are Google's word, because the vTPM runs on the host: the class of
the root is the weaker one of both. Registers that the hardware measured (a TD's) are pinned besides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from strongroom.appraisal.gather import gather_tpm
from strongroom.appraisal.kinds import snp as snp_kind
from strongroom.appraisal.kinds import tdx as tdx_kind
from strongroom.appraisal.kinds import tpm as tpm_kind
from strongroom.appraisal.kinds.above import Claims, both, read_record
from strongroom.appraisal.kinds.kind import Judge, Kind
from strongroom.appraisal.pile import Pile
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Collateral
from strongroom.records.google import GoogleEvidence, hardware_data
from strongroom.records.verdict import Check, RootClass, failed, judged, not_run
from strongroom.tee import snp, tdx, tpm
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine

MACHINE = "gce_instance_id"
"""The claim that only a certificate of a Google machine makes."""
WEAKEST_FIRST = (RootClass.INSTALLATION, RootClass.CLOUD, RootClass.SILICON)


def _read(quote: bytes) -> tuple[GoogleEvidence, tpm.Quote]:
    """The parts. Raises `MalformedEvidence`."""
    evidence = read_record(GoogleEvidence, quote, "Google")
    return evidence, tpm.read_quote(evidence.tpm)


def _joined(name: str, technology: str, certificate: bytes, hardware: Genuine, above: Genuine) -> Genuine:
    """Both verdicts and what ties them; `above` is the vTPM's, its log included, `certificate` its AK's as evidence has it."""
    tied = _check_hardware(hardware, above)
    checks = [*hardware.checks, *above.checks, tied, _check_machine(certificate, above)]
    told = above.claims.get("gce_technology")
    if told is not None:
        checks.append(judged("gce.technology", told == technology, f"the firmware's log says {told}"))
    below = {name: value for name, value in hardware.claims.items() if name != "report_data"}
    classes = [hardware.root_class, above.root_class]
    return Genuine(
        kind=name,
        checks=tuple(checks),
        root_class=next((found for found in WEAKEST_FIRST if found in classes), None) if all(classes) else None,
        tcb_status=hardware.tcb_status,
        advisories=hardware.advisories,
        claims={**above.claims, **below},  # last, because no cloud's word stands for what hardware measured
    )


def _check_hardware(hardware: Genuine, above: Genuine) -> Check:
    signed, bound = hardware.claims.get("report_data"), above.claims.get("report_data")
    if not isinstance(signed, str):
        return not_run("gce.hardware", "the hardware's report does not hold")
    if not isinstance(bound, str):
        return not_run("gce.hardware", "the vTPM's quote does not hold")
    wanted = hardware_data(str(above.claims["ak_name"]), bytes.fromhex(bound))
    return judged("gce.hardware", signed == wanted.hex(), "the hardware signed the AK's name and what its quote binds")


def _check_machine(certificate: bytes, above: Genuine) -> Check:
    if "endorsement" not in above.claims:
        return not_run("gce.machine", "the vTPM's quote does not hold")
    if certificate and digest_bytes(certificate) != above.claims["endorsement"]:
        return failed("gce.machine", "the certificate in the evidence is not the one that vouches for the key")
    told = [str(above.claims.get(claim, "")) for claim in ("gce_zone", "gce_project", MACHINE)]
    return judged(
        "gce.machine", MACHINE in above.claims, "/".join(told) if all(told) else "no certificate of a machine"
    )


def _judge(name: str, technology: str, verify: Callable[..., Genuine], vendor: str) -> Judge:
    """Google's evidence above hardware that `verify` judges, with the collateral of `vendor`."""

    def judge(quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
        evidence, told = _read(quote)
        hardware = verify(evidence.hardware, getattr(collateral, vendor), anchors, now)
        above = tpm_kind.explained(tpm.verify(told, collateral.tpm, anchors, now), log)
        return _joined(name, technology, evidence.certificate, hardware, above)

    return judge


def _stated(beneath: Callable[[bytes], Claims]) -> Callable[[bytes], Claims]:
    def stated(quote: bytes) -> Claims:
        evidence, _ = _read(quote)
        said = {name: value for name, value in beneath(evidence.hardware).items() if name != "report_data"}
        return {**tpm_kind.stated(codec.encode(evidence.tpm)), **said}

    return stated


def _gather(beneath: Callable[[bytes, Pile], Collateral]) -> Callable[[bytes, Pile], Collateral]:
    """The hardware's collateral, and the path of the AK's certificate."""

    def gather(quote: bytes, pile: Pile) -> Collateral:
        evidence, told = _read(quote)
        found = beneath(evidence.hardware, pile)
        if not evidence.certificate:
            return dataclasses.replace(found, tpm=tpm_kind.gather(codec.encode(evidence.tpm), pile).tpm)
        try:
            leaf = x509.load_certificate(evidence.certificate)
        except MalformedEvidence:
            return found
        return dataclasses.replace(found, tpm=gather_tpm(pile, leaf, told.ak.name))

    return gather


def _kind(name: str, technology: str, beneath: Kind, verify: Callable[..., Genuine], vendor: str) -> Kind:
    return both(
        name,
        beneath,
        registers=beneath.registers,
        runtime=beneath.runtime or tpm_kind.TPM.runtime,
        launch_spec=beneath.launch_spec,
        judge=_judge(name, technology, verify, vendor),
        stated=_stated(beneath.stated),
        gather=_gather(beneath.gather),
    )


GOOGLE_SNP = _kind(
    "gce-snp",
    "sev-snp",
    snp_kind.SNP,
    lambda report, *told: snp.verify(snp.parse_report(report), *told),
    "amd",
)
GOOGLE_TDX = _kind(
    "gce-tdx",
    "tdx",
    tdx_kind.TDX,
    lambda quote, *told: tdx.verify(tdx.parse_quote(quote), *told),
    "intel",
)
