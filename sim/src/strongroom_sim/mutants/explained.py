"""Why some changed samples hold and claim the same as before: the whole table, with reasons. Everything else is a finding.

Knows: which freedom each entry stands for. An entry counts for an aware mutant only if its maker named it, and for a blind
one only if what was changed is shown here to be just that. Does not know: how mutants are made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Collateral
from strongroom.records.google import GoogleEvidence
from strongroom.tee.eventlog import Event, Log, Style, parse_log
from strongroom_sim.conformance import Sample
from strongroom_sim.mutants.mutant import Mutant, swapped

GROWING = (10, 11, 15, *range(16, 24))
"""PCRs that cannot be compared with a log; in a CCEL it is measurement register 4, of which the simulator logs nothing."""
TAG_BYTES, VARIABLE_BYTES = 8, 32
_ENDS = re.compile("(?<=-----END CERTIFICATE-----)\n+")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One freedom: why it is no defect, and, if blind changes can find it, how a change is recognised as just that."""

    reason: str
    recognised: Callable[[Sample, Sample, Mutant], bool] = lambda *_: False


def explain(mutant: Mutant) -> str:
    """The name of the entry that explains why `mutant` holds and claims the same, or an empty string."""
    if mutant.aware:
        return mutant.change.free if mutant.change.free in EXPLAINED else ""
    good, changed = mutant.base.sample, mutant.sample
    return next((name for name, entry in EXPLAINED.items() if entry.recognised(good, changed, mutant)), "")


def _only_collateral(good: Sample, changed: Sample) -> bool:
    return (good.quote, good.log) == (changed.quote, changed.log)


def _blank_lines(good: Sample, changed: Sample, _: Mutant) -> bool:
    """The same but for line ends behind the blocks of certificates."""
    return _only_collateral(good, changed) and _squeezed(good.collateral) == _squeezed(changed.collateral)


def _squeezed(collateral: Collateral) -> Collateral:
    parts = {name: getattr(collateral, name) for name in ("intel", "amd", "tpm")}
    return swapped(collateral, **{name: _squeezed_part(part) for name, part in parts.items() if part is not None})


def _squeezed_part(part: Any) -> Any:
    texts = {member.name: value for member in fields(part) if isinstance(value := getattr(part, member.name), str)}
    return swapped(part, **{name: _ENDS.sub("", value) for name, value in texts.items()})


def _without(*names: str) -> Callable[[Sample, Sample, Mutant], bool]:
    """The same but for members of Intel's collateral that are not asked for here."""

    def rest(sample: Sample) -> Collateral:
        intel = sample.collateral.intel
        return replace(sample.collateral, intel=intel and swapped(intel, **dict.fromkeys(names, "")))

    def recognised(good: Sample, changed: Sample, _: Mutant) -> bool:
        return good.collateral.intel is not None and _only_collateral(good, changed) and rest(good) == rest(changed)

    return recognised


def _lists_of_nobody(good: Sample, changed: Sample, _: Mutant) -> bool:
    """The same but for the lists beside an enrolment."""
    mine, other = good.collateral.tpm, changed.collateral.tpm
    if mine is None or other is None or mine.chain or not mine.enrolment:
        return False
    return _only_collateral(good, changed) and replace(mine, crls=()) == replace(other, crls=())


def _same_note(good: Sample, changed: Sample, _: Mutant) -> bool:
    """The same payload of the same type in the envelope of an enrolment."""
    mine, other = good.collateral.tpm, changed.collateral.tpm
    if mine is None or other is None or not mine.enrolment or not _only_collateral(good, changed):
        return False
    try:
        first, second = Envelope.from_bytes(mine.enrolment), Envelope.from_bytes(other.enrolment)
    except MalformedRecord:
        return False
    same = (first.payload, first.payload_type) == (second.payload, second.payload_type)
    return same and replace(mine, enrolment=b"") == replace(other, enrolment=b"")


def _without_certificate(good: Sample, changed: Sample, _: Mutant) -> bool:
    """Google's evidence, the same but for the AK's certificate, which is left out."""
    try:
        mine, other = codec.decode(GoogleEvidence, good.quote), codec.decode(GoogleEvidence, changed.quote)
    except MalformedRecord:
        return False
    same = (good.log, good.collateral) == (changed.log, changed.collateral)
    return same and other == replace(mine, certificate=b"")


def _logs_alike(*besides: int) -> Callable[[Sample, Sample, Mutant], bool]:
    """The same quote, and a log of which every digest in the quoted bank is the same, but for registers `besides`."""

    def recognised(good: Sample, changed: Sample, mutant: Mutant) -> bool:
        if not good.log or (good.quote, good.collateral) != (changed.quote, changed.collateral):
            return False
        bank = mutant.base.genuine.claims.get("bank")
        style = Style.CCEL if bank is None else Style.TPM
        try:
            return alike(parse_log(good.log, style), parse_log(changed.log, style), str(bank or "sha384"), besides)
        except MalformedEvidence:
            return False

    return recognised


def alike(one: Log, other: Log, bank: str, besides: Collection[int] = ()) -> bool:
    """Whether two logs extend every register of a bank alike, but for registers `besides`, and say the same of what is in them.

    An event whose digest is over the end of its data (its text behind a label, a variable's value, all of it) must still hold
    that end, unless it is said to be an event of another type.
    """
    first, second = _extended(one, besides), _extended(other, besides)
    if first.keys() != second.keys() or any(len(first[index]) != len(second[index]) for index in first):
        return False
    return all(
        mine.digest(bank) == theirs.digest(bank)
        and (mine.type != theirs.type or _measured(bank, mine.digest(bank), mine.data) in theirs.data)
        for index in first
        for mine, theirs in zip(first[index], second[index], strict=True)
    )


def _extended(log: Log, besides: Collection[int]) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = {}
    for event in log.events:
        if event.extended and event.index not in besides:
            found.setdefault(event.index, []).append(event)
    return found


@lru_cache(maxsize=1024)
def _measured(bank: str, digest: bytes, data: bytes) -> bytes:
    """The end of `data`, with the NUL behind it or without, that has this digest; empty if none does.

    It begins at the beginning, behind the head of a tag or a label, or with a variable's value.
    """
    label = data.find(b": ") + 2 if b": " in data else 0
    starts = (0, TAG_BYTES, label, VARIABLE_BYTES + 2 * int.from_bytes(data[16:24], "little"))
    ends = (whole[at:] for whole in (data, data.removesuffix(b"\0")) for at in starts)
    return next((end for end in ends if hashlib.new(bank, end, usedforsecurity=False).digest() == digest), b"")


EXPLAINED: Mapping[str, Explanation] = {
    "ecdsa": Explanation(
        "Of every ECDSA signature (r, s) there is a twin (r, n - s) that anybody can make; no signature is an identifier."
    ),
    "certificate": Explanation(
        "A certificate that its CA issued with another serial number, another lawful time, more extensions that are not "
        "critical, another region in an enclave's name: what a path asks of it is the same."
    ),
    "crl": Explanation(
        "A list that its CA issued at another lawful time, with other certificates in it: none in this path is revoked."
    ),
    "pem.lines": Explanation(
        "Line ends behind a certificate in PEM, none or several: nobody signs them.", _blank_lines
    ),
    "pem.end": Explanation("Quoting libraries end the chain in a quote with one NUL or with none: nobody signs it."),
    "dcap.header": Explanation(
        "Reserved fields and user data of a quote's header, and the SVNs that SGX repeats there: signed, and of no meaning; "
        "what counts stands in the enclave's report and in the PCK certificate."
    ),
    "dcap.enclave": Explanation(
        "Fields of the quoting enclave's report by which Intel does not name it (it is named by signer, product, SVN, "
        "MISCSELECT and attributes under a mask), and reserved ones of every enclave's."
    ),
    "dcap.cpusvn": Explanation(
        "CPUSVN in an enclave's report: the platform's TCB is what its PCK certificate says, as Intel's library has it."
    ),
    "dcap.auth": Explanation(
        "The quoting enclave's own data beside its key: bound by the enclave, of no meaning to others."
    ),
    "dcap.named": Explanation(
        "A quote that names its platform instead of bringing the chain: who made it is what the chain's key verifies."
    ),
    "dcap.standing": Explanation(
        "TCB info or QE identity that Intel signed with another content, by which this platform stands the same."
    ),
    "dcap.pck_crl_chain": Explanation(
        "The chain that comes with the PCK revocation list only says whose list it is: the list is verified by the CA of the "
        "platform's own path.",
        _without("pck_crl_chain"),
    ),
    "dcap.pck_chain": Explanation(
        "A platform's chain in the collateral is for quotes that bring none; this one does.", _without("pck_chain")
    ),
    "pck.member": Explanation(
        "Members of the SGX extension that nobody asks for, CPUSVN among them, their order, and SVNs that reach the same level."
    ),
    "snp.guest": Explanation(
        "REPORT_ID and REPORT_ID_MA name one guest for as long as it lives, and say nothing about it."
    ),
    "snp.model": Explanation(
        "Another model or stepping of the same product, and whether an author key was used at all (its digest is a claim): the "
        "chip is named by its id and its certificate. MASK_CHIP_KEY is about VCEKs, and a VLEK signed."
    ),
    "snp.leaf": Explanation(
        "A leaf that AMD issued in another way of its own: version 0 or 1 of its extensions, a stepping in the product's name, "
        "the hardware id bare or in an OCTET STRING, members added."
    ),
    "snp.lines": Explanation(
        "A chain whose lines all end with CR LF, as AMD's service writes some: nobody signs them."
    ),
    "cose.tag": Explanation(
        "A COSE message with its tag or without: nobody signs it, and AWS's documents are seen in both forms.",
        lambda good, changed, _: replace(good, quote=b"\xd2" + good.quote) == changed,
    ),
    "cose.header": Explanation("Further members of a protected header: the signer said them, and none is critical."),
    "cose.unprotected": Explanation(
        "The unprotected header of a CCA token: nobody signs it, and nothing is taken from it."
    ),
    "nitro.null": Explanation(
        "An optional field of a document that is null, empty or left out: AWS means the same by it."
    ),
    "nitro.cbor": Explanation(
        "The payload spelt otherwise: lengths left open, members in another order; signed as it stands, it says the same."
    ),
    "cca.wrapped": Explanation("Both tokens bare, or as records of CMW: nobody signs the collection around them."),
    "cca.order": Explanation("Members of the collection or of a token in another order: it says the same."),
    "cca.text": Explanation(
        "The verification service of a platform, the version and hash name of a component: words beside what is measured, "
        "which are no claims."
    ),
    "cca.key_hash": Explanation("Another admitted hash by which the platform token vouches for the realm's key."),
    "cca.key": Explanation("Another key of the realm, for which the platform vouches just as well."),
    "tpm.public": Explanation("A key as TPM2B_PUBLIC or as TPMT_PUBLIC: tools write either, and its name is the same."),
    "tpm.scalars": Explanation(
        "Zeros before r or s of a TPM's signature: nobody signs the size in which a scalar is written."
    ),
    "tpm.sha1": Explanation(
        "Registers of another bank beside those that count: the TPM quoted them, and no claim is made of them."
    ),
    "tpm.note": Explanation(
        "The note of an enrolment signed for another lawful time, or for a better class of root than the anchor of its verifier "
        "admits, which does not count; other signatures or a name of the key beside it, which are no proof.",
        _same_note,
    ),
    "tpm.lists": Explanation(
        "Revocation lists beside an enrolment: there is no certificate to be looked for in them.", _lists_of_nobody
    ),
    "azure.runtime": Explanation(
        "Members of the paravisor's claims that nobody reads, or another spelling of them: the hardware signed them as they stand."
    ),
    "gce.certificate": Explanation(
        "Without the AK's certificate in the evidence: what vouches is the one in the collateral.",
        _without_certificate,
    ),
    "azure.ak": Explanation("The AK shown beside the quote, the same that stands in the runtime claims."),
    "log.unmeasured": Explanation(
        "What an event log says beside its digests where these are over something that is not in the log, its header, digests "
        "of banks that were not quoted: no quoted register holds it, and no fact rests on it.",
        _logs_alike(),
    ),
    "log.absent": Explanation(
        "A log that is left out: there are no checks of it then, and nothing that it alone tells is claimed. Whether Secure Boot "
        "is on Azure's paravisor says too."
    ),
    "log.growing": Explanation(
        "Events of registers that a running system goes on extending (PCR 10, 11, 15 and those that can be reset; RTMR3): the "
        "log cannot be compared with them, no fact rests on them, and the registers themselves are claims.",
        _logs_alike(*GROWING),
    ),
}
"""Name -> the explanation. `tests/unit/sim/test_campaign.py` shows each at work."""
