"""Where dcap-qvl 0.7.0 and strongroom differ, each with a name and the reason; nothing else may differ.

Knows: how each difference is recognised, from what was done to the evidence and from what both said. Does not know: how
evidence is made (`mutations`).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import dcap_qvl
from cryptography.exceptions import InvalidSignature
from dcap_world import JUDGES, peers_collateral
from mutations import Case

from strongroom.appraisal.kinds import sgx as sgx_kind
from strongroom.appraisal.kinds import tdx as tdx_kind
from strongroom.appraisal.policies import template
from strongroom.crypto import x509
from strongroom.errors import Unreadable
from strongroom.records.policy import Reference
from strongroom.records.verdict import Status, all_passed
from strongroom.tee.dcap.documents import STATUSES
from strongroom.tee.genuine import Genuine

IMAGE = "sha256:" + "0" * 64
POLICY = template("second opinion", references=[Reference(IMAGE, "tdx", {"mrtd": ("00" * 48,)})], artifacts=[IMAGE], simulated=True)  # type: ignore[arg-type]  # fmt: skip


@dataclass
class Opinion:
    """What somebody says of a case: a status or None for a refusal, advisories, and why not."""

    status: str | None
    advisories: tuple[str, ...]
    why: tuple[str, ...]
    genuine: Genuine | None = None


def ours(case: Case) -> Opinion:
    try:
        genuine = JUDGES[case.kind](case.quote, case.collateral, case.anchors, case.now)
    except Unreadable:
        return Opinion(None, (), ("parse",))
    if not all_passed(genuine.checks):
        failed = tuple(
            check.id.removeprefix(f"{case.kind}.") for check in genuine.checks if check.status is Status.FAIL
        )
        return Opinion(None, (), failed, genuine)
    return Opinion(genuine.tcb_status, genuine.advisories, (), genuine)


def theirs(case: Case) -> Opinion:
    collateral = peers_collateral(case.collateral)
    try:
        if case.root is None:
            report = dcap_qvl.verify(case.quote, collateral, case.now)
        else:
            report = dcap_qvl.verify_with_root_ca(case.quote, collateral, case.root, case.now)
    except ValueError as error:
        return Opinion(None, (), (" ".join(str(error).split()),))
    return Opinion(str(report.status), tuple(sorted(set(report.advisory_ids))), ())


@dataclass(frozen=True)
class Difference:
    """A name, the reason, and whether it applies to one failed check of ours (or one refusal of theirs)."""

    name: str
    reason: str
    applies: Callable[[Case, str], bool]


def _done(case: Case, *names: str) -> bool:
    return any(done.split(" ")[0] in names for done in case.done)


def _begins_with_a_quote(case: Case, check: str) -> bool:
    """Whether it is a quote, and something behind it."""
    if check != "parse":
        return False
    head = {"sgx": 432, "tdx": 632}[case.kind]
    if case.quote[:2] == b"\x05\x00":
        head = 54 + int.from_bytes(case.quote[50:54], "little")
    size = head + 4 + int.from_bytes(case.quote[head : head + 4], "little")
    try:
        JUDGES[case.kind](case.quote[:size], case.collateral, case.anchors, case.now)
    except Unreadable:
        return False
    return size < len(case.quote)


def _leaf_and_authority_stand(case: Case, check: str) -> bool:
    """Whether the quote's first two certificates are what they were, if perhaps in another spelling."""
    if check not in {"anchor", "parse"}:
        return False
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", case.quote, re.DOTALL)
    try:
        leaf, authority = (x509.load_certificate(base64.b64decode(b"".join(block.split()))) for block in blocks[:2])
        leaf.verify_directly_issued_by(authority)
    except (Unreadable, ValueError, TypeError, InvalidSignature):
        return False
    return True


def _unknown_word(case: Case, check: str) -> bool:
    if check != "tcb_info.content":
        return False
    return any(level["tcbStatus"] not in STATUSES for level in json.loads(case.collateral.tcb_info)["tcbLevels"])


def _form(case: Case, check: str) -> bool:
    if check != "tcb_info.content":
        return False
    info = json.loads(case.collateral.tcb_info)
    return (info["version"], info["tcbType"]) != (3, 0)


def _not_yet(case: Case, check: str) -> bool:
    lists = {"pck.crl": case.collateral.pck_crl, "root.crl": case.collateral.root_ca_crl}
    return check in lists and x509.load_crl(lists[check]).last_update_utc.timestamp() > case.now


STRICTER = (
    Difference(
        "bytes behind the quote",
        "dcap-qvl takes a quote with anything behind it: two byte strings, one verdict",
        _begins_with_a_quote,
    ),
    Difference(
        "spelling of the platform's chain",
        "dcap-qvl needs leaf and CA, in any spelling of PEM; it does not look at the root in the quote, nor at what else is there",
        _leaf_and_authority_stand,
    ),
    Difference(
        "the chain of the PCK CRL",
        "dcap-qvl does not look at the certificates that come with the PCK CRL",
        lambda case, check: check == "pck.crl" and _done(case, "pck_crl_chain", "list_chain"),
    ),
    Difference("a list that does not hold yet", "dcap-qvl does not look at a CRL's thisUpdate", _not_yet),
    Difference(
        "role of the signer",
        "dcap-qvl lets any certificate of the hierarchy sign TCB info and QE identity, a PCK leaf among them",
        lambda case, check: check.endswith(".signer") and _done(case, "foreign_signer"),
    ),
    Difference(
        "spelling of the signer's chain",
        "dcap-qvl needs the signer's certificate alone, and skips what is not a certificate in its PEM",
        lambda case, check: _done(case, check.removesuffix(".signer") + "_chain"),
    ),
    Difference(
        "PCE-ID",
        "dcap-qvl compares the family, and not the provisioning enclave, of TCB info with the PCK certificate",
        lambda _, check: check == "tcb_info.pceid",
    ),
    Difference(
        "a word that is not Intel's",
        "dcap-qvl reads the status of the level that is reached only; an unknown one beside it goes unseen",
        _unknown_word,
    ),
    Difference(
        "form of TCB info", "dcap-qvl does not look at tcbType, and takes version 2 with an id, and version 4", _form
    ),
    Difference(
        "a module identity twice",
        "dcap-qvl takes the first of two identities of one generation of the TDX module",
        lambda case, check: check == "tcb.module" and case.collateral.tcb_info.count('"TDX_01"') == 2,
    ),
    Difference(
        "order of levels",
        "dcap-qvl sorts the levels; PCS API v4 says to take the first on the list that is reached, and so do we",
        lambda case, check: check == "tcb.platform" and _done(case, "level_order"),
    ),
    Difference(
        "what runs now",
        "dcap-qvl passes a TD whose module was current at launch, whatever module runs it now",
        lambda case, check: check == "tcb.current" and _done(case, "td_svn_now"),
    ),
)
"""We refuse, it does not; each of our failed checks must have one of these reasons."""


def _policy(name: str) -> Callable[[Case, str], bool]:
    """Whether our policy refuses what dcap-qvl refuses by itself: here it is a claim."""

    def refuses(case: Case, _: str) -> bool:
        genuine = ours(case).genuine
        if genuine is None:
            return False
        checks = sgx_kind.SGX.exposed(genuine) if case.kind == "sgx" else tdx_kind.TDX.wanted(genuine, POLICY)
        return any(check.id == name and check.status is Status.FAIL for check in checks)

    return refuses


def _last_second(case: Case, message: str) -> bool:
    found = re.search(r"time: UnixTime\((\d+)\), next_update: UnixTime\((\d+)\)", message)
    return found is not None and found[1] == found[2] == str(case.now)


LOOSER: dict[str, Difference] = {
    pattern: Difference(pattern, reason, applies)
    for pattern, reason, applies in (
        ("SEPT_VE_DISABLE is not enabled", "policy.tdx.sept_ve_disable", _policy("policy.tdx.sept_ve_disable")),
        ("Invalid MR service TD", "policy.tdx.mr_service_td", _policy("policy.tdx.mr_service_td")),
        ("Reserved bits in TD attributes are set", "policy.tdx.reserved_bits", _policy("policy.tdx.reserved_bits")),
        ("SERVTD_EXT is enabled", "policy.tdx.reserved_bits", _policy("policy.tdx.reserved_bits")),
        ("TD migration is enabled", "policy.tdx.migratable", _policy("policy.tdx.migratable")),
        (
            "TD profiling is enabled",
            "policy.tdx.reserved_bits or policy.tdx.perfmon",
            lambda case, message: (
                _policy("policy.tdx.perfmon")(case, message) or _policy("policy.tdx.reserved_bits")(case, message)
            ),
        ),
        (
            "Debug mode is enabled",
            "policy.tdx.debug, sgx.debug",
            lambda case, message: _policy("policy.tdx.debug")(case, message) or _policy("sgx.debug")(case, message),
        ),
        ("CrlExpired", "the second of nextUpdate still counts here (RFC 5280 section 5.1.2.5)", _last_second),
        (
            "PceSvn length mismatch",
            "a PCESVN of more than one byte is read as the number it is",
            lambda case, _: _done(case, "platform"),
        ),
        (
            "Unrecognized TCB status",
            "any word of Intel's is understood of enclaves and modules too, and the worst counts",
            lambda case, message: (
                ("in QE Identity" in message and _done(case, "enclave_statuses"))
                or ("in TDX module identity" in message and _done(case, "module"))
            ),
        ),
        (
            "TCB status is invalid: Revoked",
            "dcap-qvl sorts the levels; we take the first on the list",
            lambda case, _: _done(case, "level_order"),
        ),
    )
}
"""It refuses, we do not: its message, and where strongroom refuses instead or why it does not."""

STANDING = (
    Difference(
        "order of levels",
        "dcap-qvl sorts the levels; we take the first on the list",
        lambda case, _: _done(case, "level_order"),
    ),
    Difference(
        "a shortcoming of the quoting enclave",
        "of the quoting enclave dcap-qvl counts OutOfDate and Revoked only; here the worst of all counts",
        lambda case, _: _done(case, "enclave_statuses"),
    ),
    Difference(
        "what runs now",
        "of a TD report 1.5 dcap-qvl judges the launch, and the present where the launch is old; here the worst counts",
        lambda case, _: _done(case, "td_svn_now", "service_td", "extended"),
    ),
)
"""Both pass it, with another status or other advisories."""


def unexplained(case: Case) -> list[str]:
    """What has no reason in the tables above; empty where both agree."""
    mine, peer = ours(case), theirs(case)
    if mine.status is None and peer.status is None:
        return []
    if mine.status is None:
        reasons = {check: [d.name for d in STRICTER if d.applies(case, check)] for check in mine.why}
        return [f"{case}: we refuse ({check}), it says {peer.status}" for check, names in reasons.items() if not names]
    if peer.status is None:
        (message,) = peer.why
        known = [d for pattern, d in LOOSER.items() if pattern in message and d.applies(case, message)]
        return [] if known else [f"{case}: we say {mine.status}, it refuses ({message})"]
    if (mine.status, mine.advisories) == (peer.status, peer.advisories):
        return []
    if any(difference.applies(case, "") for difference in STANDING):
        return []
    return [f"{case}: we say {mine.status} {mine.advisories}, it says {peer.status} {peer.advisories}"]
