"""Which check failed, in words for the person who has to mend it, and which measured input made a register differ.

Knows: what usually makes a check fail and what to do; how the inputs of a good boot are compared with those of this one.
Does not know: how checks are made, or where the inputs of a good boot come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from strongroom.appraisal.signed import Known
from strongroom.errors import AppraisalRefused, MalformedEvidence
from strongroom.records.digest import Digest
from strongroom.records.evidence import ARTIFACT, Evidence, events_of
from strongroom.records.verdict import Check, Status, Verdict
from strongroom.tee.eventlog import Input, Style, difference, inputs, parse_log

LOGS = {
    "tdx": (Style.CCEL, "sha384"),
    "tpm": (Style.TPM, "sha256"),
    "az-snp": (Style.TPM, "sha256"),
    "az-tdx": (Style.TPM, "sha256"),
    "gce-snp": (Style.TPM, "sha256"),
    "gce-tdx": (Style.TPM, "sha256"),
}
"""Kind -> whose log it brings, and in which bank registers are quoted."""

CAUSES: tuple[tuple[str, str], ...] = (
    ("binding.nonce", "the evidence answers another nonce: it was recorded earlier, or made for somebody else"),
    ("binding.report_data", "keyset, statement or purpose were changed after the hardware signed them"),
    ("binding.purpose", "evidence made for one purpose was shown for another"),
    ("statement.image", "other code runs there than the policy's reference values name; rebuild, or add its reference"),
    ("statement.launch_spec", "the machine was launched from another specification"),
    ("statement.events", "what the worker says it opened is not what it measured"),
    (
        "events.replay",
        "an event was left out, added or changed; or a worker ran here before: boot the TEE again for each worker",
    ),
    (
        "policy.provenance",
        "nobody whom the policy names says that a builder it names made this image; give its provenance",
    ),
    ("policy.artifacts", "an artifact is open there that the policy does not name"),
    ("policy.configuration", "the worker was configured otherwise: another broker, engine or setting"),
    ("policy.level", "the place protects less (or other) than the policy demands"),
    ("policy.custody.denied", "somebody warns of this very machine; do not use it, whatever else it proves"),
    ("policy.custody", "no custodian that the policy names vouches for this machine; give their current list"),
    (
        "policy.tdx.tcb_status",
        "firmware or microcode of the platform is behind; update it, or admit the status by name",
    ),
    (
        "policy.sgx.tcb_status",
        "firmware or microcode of the platform is behind; update it, or admit the status by name",
    ),
    ("policy.snp.tcb", "the platform's firmware is older than the policy's minimum; update it"),
    ("policy.tdx.debug", "the TD can be debugged by its host"),
    ("policy.sgx.debug", "the enclave can be debugged by its host"),
    ("policy.snp.debug", "the guest can be debugged by its host"),
    ("policy.snp.alias_check_complete", "the firmware has not ruled out aliased memory (BadRAM); update it"),
    ("policy.tpm.secure_boot", "Secure Boot is off, or no event log was given to tell"),
    ("tdx.pck", "the certificate chain does not lead to a root that was given"),
    ("sgx.pck", "the certificate chain does not lead to a root that was given"),
    ("tdx.tcb_info", "the collateral is stale, signed by another role, or for another platform"),
    ("sgx.tcb_info", "the collateral is stale, signed by another role, or for another platform"),
    ("snp.crl", "no revocation list of AMD's was given, or it does not hold; fetch it, or excuse it in the policy"),
    ("snp.leaf.tcb", "the certificate is of another firmware version than the report; fetch the one for this version"),
    ("snp.leaf.chip", "the certificate is of another chip than the report"),
    ("tpm.ak", "nobody vouches for the attestation key; enrol the TPM, or give its certificates"),
    ("tpm.pcrs.selection", "the quote is about other registers than are shown"),
    ("nitro.chain", "the document has ended: its key lives for three hours; or it is not AWS's"),
    ("nitro.debug", "the enclave was started in debug mode, and measures nothing"),
    ("cca.anchor", "the platform's key is not one that was given as trusted"),
    ("azure.runtime", "the vTPM's key is not the one that the hardware vouches for"),
    ("gce.hardware", "report and vTPM's quote are not of one machine, or not of one moment"),
    (
        "gce.machine",
        "the vTPM's key has no certificate of a machine of Google's; give it, and Google's CA, as collateral",
    ),
    ("gce.technology", "the firmware says that it runs on other hardware than the report is of"),
    *(
        (f"{kind}.log", "the event log is not what was measured, or measured something that nobody understands")
        for kind in ("tdx", "tpm")
    ),
    *(
        (f"{kind}.collateral", "what the vendor signs about this hardware was not given; name it with --collateral")
        for kind in ("tdx", "sgx", "snp", "cca")
    ),
    *(
        (f"{kind}.anchor", "it does not hang from a root that was given")
        for kind in ("tdx", "sgx", "snp", "tpm", "nitro")
    ),
    *(
        (f"{kind}.", "the evidence or its collateral does not hold")
        for kind in ("tdx", "sgx", "snp", "tpm", "nitro", "cca", "azure", "gce")
    ),
)


def cause(check: Check) -> str:
    """What usually makes this check fail; empty if nothing better than its detail is known."""
    return cause_of(check.id)


def cause_of(name: str) -> str:
    """As `cause`, of the check with this id."""
    return next((text for prefix, text in CAUSES if name.startswith(prefix)), "")


def reason_for(check: Check) -> str:
    """Why a check did not pass, in one line: whether it was made, what differed, and what usually makes it fail."""
    made = "" if check.status is not Status.NOT_RUN else AppraisalRefused.NOT_MADE
    return "; ".join(part for part in (made, check.detail, cause(check)) if part) or "did not pass"


def explain(verdict: Verdict) -> list[tuple[Check, str]]:
    """Each check that did not pass, with its usual cause; failures before those that were not run."""
    ordered = sorted(verdict.failed, key=lambda check: check.status is Status.NOT_RUN)
    return [(check, cause(check)) for check in ordered]


def measured_inputs(kind: str, log: bytes) -> tuple[Input, ...]:
    """What a firmware's event log says was measured, in order. Raises `MalformedEvidence`, also for kinds without logs."""
    found = LOGS.get(kind)
    if found is None:
        raise MalformedEvidence(f"evidence of kind {kind[:32]} comes without an event log")
    style, bank = found
    return inputs(parse_log(log, style), bank)


def expected_inputs(known: Known, image: Digest) -> tuple[Input, ...]:
    """The inputs of an image's good boot, as builders' signed reference values name them."""
    return tuple(
        Input(row.register, row.event, row.digest, row.what)
        for _, values in known.references
        for row in values.inputs
        if row.image == image
    )


def explain_registers(evidence: Evidence, verdict: Verdict, expected: Sequence[Input]) -> list[str]:
    """Which measured input made each register differ from a good boot, a sentence each.

    The evidence's own log counts only if it replays to the registers that were quoted. Raises `MalformedEvidence`.
    """
    if not expected:
        return []
    if not evidence.log:
        return ["the evidence brings no event log, so nobody can say which input differs"]
    unexplained = [
        check for check in verdict.failed if ".log." in check.id and check.id.endswith((".parse", ".replay"))
    ]
    if unexplained:
        return [f"the event log does not explain the registers: {unexplained[0].detail}"]
    return [found.text for found in difference(expected, measured_inputs(evidence.kind, evidence.log))]


def explain_events(evidence: Evidence) -> list[str]:
    """Which run-time event is not what the statement says, a sentence each."""
    said = events_of(evidence.statement)
    found = []
    for position, (want, have) in enumerate(zip_longest(said, evidence.events), start=1):
        if want == have:
            continue
        if have is None:
            found.append(f"event {position} is missing: {want.name} {want.value}" if want else "")
        elif want is None and have.name == ARTIFACT:
            found.append(f"event {position} was added, something opened later: {have.value}")
        elif want is None:
            found.append(f"event {position} was added: {have.name} {have.value}")
        else:
            found.append(
                f"event {position} differs: stated {want.name} {want.value}, measured {have.name} {have.value}"
            )
    return found
