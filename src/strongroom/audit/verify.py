"""A bundle judged: offline, with public keys only, by appraising every piece of evidence again.

Knows: the numbered checks and their order. Does not know: where the bundle came from, or how it is shown (`report`).
Each decision is appraised at the time in its leaf, for the nonce and the purpose in its evidence, under each policy it
rested on; the verdict must be the token's, level by level and check by check. Nothing that is missing passes.
Not covered: that the log is the same for everybody, unless the auditor names witnesses; that a nonce was the broker's own and unused,
beyond that none occurs twice here; what was decided and is not within the bundle's scope. Reference values, custody
lists and provenance that the broker was given are not in the bundle: who audits brings them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.appraisal import appraise, ear
from strongroom.appraisal.signed import NOTHING, Known
from strongroom.audit import bundle as files
from strongroom.audit.bundle import Bundle
from strongroom.audit.decisions import CHAIN, RECEIPTS, RELEASE, Decision
from strongroom.audit.findings import Finding, Tally
from strongroom.audit.opened import Opened, collateral_of, parse, take_apart
from strongroom.audit.witnessed import check_witnesses
from strongroom.crypto import merkle
from strongroom.crypto.signatures import PublicKey
from strongroom.errors import ReceiptInvalid, Refused, StrongroomError, Unreadable
from strongroom.receipts.chain import chain_head
from strongroom.receipts.cosignature import Quorum
from strongroom.receipts.identity import token_key
from strongroom.receipts.receipt import verify_signature_only
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, raw
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.receipt import Receipt
from strongroom.records.verdict import Level, Verdict
from strongroom.tee.anchors import TrustAnchor

MAX_HASHES = 1 << 22
"""How much is hashed in search of the root that a receipt is under."""


@dataclass(frozen=True, slots=True)
class AuditTrust:
    """What an auditor holds: the broker's fingerprint, who may sign policies and the bundle, the trust anchors.

    `owners` may sign policies of every tenant and of the house, `tenants` each those of the tenant under whose name they
    stand. `known` are signed reference values, custody lists and provenance, as the broker had them. `witnesses` must have
    signed the log.
    """

    broker: Digest
    owners: tuple[PublicKey, ...]
    anchors: tuple[TrustAnchor, ...]
    exporter: PublicKey | None = None
    accept_simulated: bool = False
    known: Known = NOTHING
    tenants: Mapping[str, tuple[PublicKey, ...]] = field(default_factory=dict)
    witnesses: Quorum | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcome: every check, and what of the bundle stands in the log. `accepted` is derived, never set."""

    findings: tuple[Finding, ...]
    opened: Opened
    receipts: tuple[Receipt, ...]

    @property
    def accepted(self) -> bool:
        return bool(self.opened.leaves) and all(finding.stands for finding in self.findings)

    @property
    def open_points(self) -> tuple[Finding, ...]:
        """The checks that do not stand."""
        return tuple(finding for finding in self.findings if not finding.stands)


def verify(bundle: Bundle, trust: AuditTrust) -> Audit:
    """Judge `bundle`. Raises nothing: whatever does not hold is a finding."""
    signature = Tally("audit.signature", "exporter to look for, and the signature holds")
    if trust.exporter is not None:
        signature.count()
        try:
            bundle.check_signature(trust.exporter)
        except Refused as error:
            signature.fail(files.MANIFEST, error.message)
    opened = take_apart(bundle, trust.broker, lambda tenant: (*trust.owners, *trust.tenants.get(tenant, ())))
    check_witnesses(opened, bundle, trust.witnesses)
    verdicts = _tokens(opened)
    _chains(opened)
    _again(opened, bundle, trust, verdicts)
    _nonces(opened)
    _levels(opened, verdicts, accept_simulated=trust.accept_simulated)
    receipts = _receipts(opened, bundle)
    _roots(opened, receipts)
    _unused(opened, bundle)
    findings = [tally.finding(number) for number, tally in enumerate([signature, *opened.tallies], 1)]
    return Audit(tuple(findings), opened, tuple(receipts.values()))


def _tokens(opened: Opened) -> dict[int, Verdict]:
    """The verdict of each decision, once the broker signed it as a yes to this evidence, at this time and level."""
    tally = opened.tally("audit.tokens", "verdict tokens, signed by the broker")
    verdicts: dict[int, Verdict] = {}
    for decision in opened.decisions:
        tally.count()
        name = files.numbered(files.DECISIONS, decision.index)
        if opened.identity is None:
            tally.miss(name, "no broker is known who could have signed it")
            continue
        try:
            verdict = ear.from_token(decision.kept.token, token_key(opened.identity))
        except (Refused, Unreadable) as error:
            tally.fail(name, error.message)
            continue
        logged = (decision.kept.evidence.digest, decision.policies[0], decision.leaf.time, decision.level)
        if (verdict.evidence, verdict.policy, verdict.time, verdict.level.value) != logged or not verdict.accepted:
            tally.fail(name, "this token is not a yes to this evidence, at this time, under this policy")
            continue
        verdicts[decision.index] = verdict
    return verdicts


def _chains(opened: Opened) -> None:
    """The heads of each lease's chain of tokens follow from one another, from its release on."""
    tally = opened.tally("audit.chain", "decisions, each in its lease's chain of tokens")
    heads: dict[str, Digest] = {}
    for decision in opened.decisions:
        tally.count()
        name, lease = f"leaf {decision.index}", decision.leaf.subject
        before = heads.get(lease)
        heads[lease] = decision.leaf.digests[CHAIN]
        if decision.leaf.event == RELEASE:
            if before is not None:
                tally.fail(name, f"lease {lease} is released twice")
        elif before is None:
            tally.miss(name, f"the decision before it, for lease {lease}, is not in the bundle")
            continue
        if chain_head(before, decision.kept.token) != heads[lease]:
            tally.fail(name, f"its head does not follow from the one before it, of lease {lease}")


def _again(opened: Opened, bundle: Bundle, trust: AuditTrust, verdicts: dict[int, Verdict]) -> None:
    """Every piece of evidence appraised again."""
    tally = opened.tally("audit.evidence", "pieces of evidence, appraised again with the same verdict")
    for decision in opened.decisions:
        tally.count()
        name = files.numbered(files.DECISIONS, decision.index)
        token = verdicts.get(decision.index)
        collateral = collateral_of(bundle, tally, decision.kept.collateral)
        if collateral is None:
            continue
        if token is None or any(digest not in opened.policies for digest in decision.policies):
            tally.miss(name, "its token does not hold, or one of its policies is not in the bundle")
            continue
        evidence = EvidenceBundle(decision.kept.evidence, collateral)
        try:
            found = [_appraised(evidence, decision, digest, opened, trust) for digest in decision.policies]
        except StrongroomError as error:
            tally.fail(name, error.message)
            continue
        for verdict in found:
            if not verdict.accepted:
                tally.fail(name, f"not accepted: {', '.join(check.id for check in verdict.failed[:4])}")
        if _outcome(found[0]) != _outcome(token):
            tally.fail(name, f"the verdict is another than the token's: {_difference(found[0], token)}")


def _appraised(
    evidence: EvidenceBundle, decision: Decision, policy: Digest, opened: Opened, trust: AuditTrust
) -> Verdict:
    return appraise(
        evidence,
        policy=opened.policies[policy],
        anchors=trust.anchors,
        nonce=evidence.evidence.nonce,
        purpose=decision.purpose,
        now=decision.leaf.time,
        known=trust.known,
    )


def _outcome(verdict: Verdict) -> tuple[object, ...]:
    """What has to be the same again; how a detail is worded may differ from one version to another."""
    return verdict.level, [(check.id, check.status) for check in verdict.checks], verdict.purpose, dict(verdict.claims)


def _difference(one: Verdict, other: Verdict) -> str:
    mine, theirs = ({(check.id, check.status.value) for check in verdict.checks} for verdict in (one, other))
    return ", ".join(sorted({name for name, _ in mine ^ theirs})[:4]) or "level, purpose, claims or order"


def _nonces(opened: Opened) -> None:
    """One challenge is answered once."""
    tally = opened.tally("audit.nonces", "nonces, each answered once")
    seen: dict[bytes, int] = {}
    for decision in opened.decisions:
        tally.count()
        first = seen.setdefault(decision.kept.evidence.nonce, decision.index)
        if first != decision.index:
            tally.fail(f"leaf {decision.index}", f"it answers the same challenge as leaf {first}")


def _levels(opened: Opened, verdicts: dict[int, Verdict], *, accept_simulated: bool) -> None:
    tally = opened.tally("audit.levels", "decisions, of levels that the auditor accepts")
    for index, verdict in verdicts.items():
        tally.count()
        if verdict.level is Level.SIMULATED and not accept_simulated:
            tally.fail(f"leaf {index}", "a simulated TEE protects nothing, and nobody said --accept-simulated")


def _receipts(opened: Opened, bundle: Bundle) -> dict[str, Receipt]:
    """The receipts that a worker signed whose lease, evidence and chain are among the decisions."""
    tally = opened.tally("audit.receipts", "receipts, signed by the worker of their lease")
    decisions = {(decision.leaf.subject, decision.leaf.digests[CHAIN]): decision for decision in opened.decisions}
    found: dict[str, Receipt] = {}
    for name, data in bundle.folder(files.RECEIPTS).items():
        tally.count()
        opened.used.add(name)
        envelope = parse(Envelope, tally, name, data)
        if envelope is None:
            continue
        try:
            if files.addressed(files.RECEIPTS, digest_bytes(data)) != name:
                raise ReceiptInvalid("this is another receipt than its name says")
            found[name] = _receipt(envelope, decisions)
        except (Refused, Unreadable) as error:
            tally.fail(name, error.message)
    return found


def _receipt(envelope: Envelope, decisions: Mapping[tuple[str, Digest], Decision]) -> Receipt:
    """The receipt in an envelope. Raises `ReceiptInvalid` or `MalformedRecord`."""
    claimed = codec.decode(Receipt, envelope.payload)
    decision = decisions.get((claimed.lease_id, claimed.chain))
    if decision is None:
        raise ReceiptInvalid("no decision in this bundle is the one that it was made under")
    receipt = verify_signature_only(envelope, decision.kept.evidence.keyset)
    if receipt.statement != decision.kept.evidence.statement.digest:
        raise ReceiptInvalid("this receipt is of another workload than the evidence")
    return receipt


def _roots(opened: Opened, receipts: dict[str, Receipt]) -> None:
    """Every receipt lies under a root that the worker had logged: consecutive receipts of its lease, in order."""
    tally = opened.tally("audit.roots", "receipts, under roots in the log")
    logged: set[str] = set()
    budget = MAX_HASHES
    for leaf in opened.leaves.values():
        if leaf.event != RECEIPTS:
            continue
        ours = sorted((r.sequence, name) for name, r in receipts.items() if r.lease_id == leaf.subject)
        count = _count(leaf.detail)
        for start in range(max(0, len(ours) - count + 1) if count else 0):
            run = ours[start : start + count]
            budget -= count
            if budget < 0:
                break
            if run[-1][0] - run[0][0] != count - 1:
                continue
            hashes = [merkle.leaf_hash(raw(receipts[name].digest)) for _, name in run]
            if leaf.digests[-1:] == (Digest(f"sha256:{merkle.root(hashes).hex()}"),):
                logged.update(name for _, name in run)
    for name in receipts:
        tally.count()
        if name not in logged:
            tally.miss(name, "its root, or a receipt that lies under the same root, is not in the bundle")


def _count(detail: str) -> int:
    """How many receipts the leaf of a root is over; 0 if it does not say."""
    number = detail.removeprefix("count=").partition(" ")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0  # noqa: PLR2004


def _unused(opened: Opened, bundle: Bundle) -> None:
    """Nothing lies in the bundle that no leaf refers to."""
    tally = opened.tally("audit.parts", "parts, each of them referred to")
    for name in bundle.parts:
        tally.count()
        if name not in opened.used:
            tally.fail(name, "nothing in this bundle refers to it")
