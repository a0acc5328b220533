"""What an audit found, for people: who got which key, when, on what proof, until when, and what it is evidence for.

Knows: Markdown, and which clauses of law and standards ask for what a bundle shows. Does not know: whether anybody
complies; no report says so. Clauses are named as a place to start: articles 12, 19 and 26 of the AI Act were read, the
other texts have to be looked up by whoever relies on them. Whatever comes from a bundle is shown as code, without
anything that Markdown or HTML would take for its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from strongroom.audit.decisions import DECIDED, RELEASE, REVOCATION, Decision
from strongroom.audit.verify import Audit
from strongroom.records.verdict import Status

MARKS = {Status.PASS: "pass", Status.FAIL: "**fail**", Status.NOT_RUN: "not-run"}
LATEST = 253402300799
"""The last second that a calendar of four digits has."""

CONTROLS: Sequence[tuple[str, str, str]] = (
    ("GDPR 30", "records of processing", "leases"),
    ("GDPR 32", "security of processing: encryption, and its testing", "keys"),
    ("HIPAA 164.312(a)(2)(iv)", "encryption and decryption", "keys"),
    ("HIPAA 164.312(b)", "audit controls", "log"),
    ("HIPAA 164.312(c)", "integrity", "log"),
    ("HIPAA 164.312(d)", "authentication of who asks", "evidence"),
    ("EU AI Act 12", "record-keeping: events are logged over the system's lifetime", "log"),
    ("EU AI Act 19 and 26(6)", "logs are kept for at least six months", "span"),
    ("ISO/IEC 42001 A.6.2.8", "recording of event logs", "log"),
    ("NIST AI RMF GOVERN 1.4", "policies and procedures that are followed", "policies"),
    ("NIST AI RMF MEASURE 2.7", "security and resilience are evaluated", "evidence"),
    ("NIST AI RMF MANAGE 4", "what was released is monitored, and can be ended", "endings"),
)
"""Clause, what it asks for, and which of a bundle's contents support it (see `_support`)."""


def to_markdown(audit: Audit) -> str:
    """The report of an audit. It begins with whether the bundle holds."""
    lines = ["# What a key broker decided", ""]
    if audit.accepted:
        lines.append("**The bundle holds.** Every check below passed, offline, by appraising the evidence again.")
    else:
        lines.append("**The bundle does not hold.** Rely on nothing below before every check stands.")
    lines += ["", *_facts(audit), "", "## Checks", "", *_checks(audit)]
    lines += [
        "",
        "## Who got which key",
        "",
        *_released(audit),
        "",
        "## How leases went on and ended",
        "",
        *_leases(audit),
    ]
    lines += ["", "## What this can support", "", *_controls(audit)]
    return "\n".join(lines) + "\n"


def _facts(audit: Audit) -> list[str]:
    opened = audit.opened
    if opened.identity is None or opened.checkpoint is None or not opened.leaves:
        return ["Neither the broker nor its log could be established."]
    times = [leaf.time for leaf in opened.leaves.values()]
    return _table(
        ("what", "value"),
        [
            ("broker", _code(opened.identity.fingerprint)),
            ("log", f"{_code(opened.checkpoint.origin)}, {opened.checkpoint.size} leaves"),
            ("leaves here", f"{len(times)}, from {_time(min(times))} to {_time(max(times))}"),
            ("receipts here", str(len(audit.receipts))),
        ],
    )


def _checks(audit: Audit) -> list[str]:
    rows = [(str(f.number), _code(f.id), MARKS[f.status], _code(f.detail)) for f in audit.findings]
    return _table(("no", "check", "outcome", "found"), rows)


def _released(audit: Audit) -> list[str]:
    rows = [
        (
            _time(decision.leaf.time),
            _code(grant.context.key_id),
            f"{grant.context.use.value} {_code(grant.context.artifact)}",
            _code(decision.leaf.subject),
            _code(decision.kept.evidence.statement.image),
            f"{_code(decision.kept.evidence.kind)}, {_code(decision.level)}",
            _code(grant.context.policy),
            _time(decision.expires),
        )
        for decision in audit.opened.decisions
        for grant in decision.kept.grants
    ]
    if not rows:
        return ["No release in this bundle could be established."]
    return _table(("when", "key", "to", "lease", "workload's image", "proof", "policy", "until, unless renewed"), rows)


def _leases(audit: Audit) -> list[str]:
    by_lease: dict[str, list[Decision]] = {}
    for decision in audit.opened.decisions:
        by_lease.setdefault(decision.leaf.subject, []).append(decision)
    ended = {leaf.subject: leaf for leaf in audit.opened.leaves.values() if leaf.event == REVOCATION}
    rows = []
    for lease, decisions in by_lease.items():
        leaf = ended.get(lease)
        revoked = f"revoked at {_time(leaf.time)} ({_code(leaf.detail)})" if leaf else "not revoked in this bundle"
        renewals = sum(decision.leaf.event != RELEASE for decision in decisions)
        rows.append((_code(lease), str(renewals), _time(decisions[-1].expires), revoked))
    return _table(("lease", "renewals", "ran until, at the latest", "ended"), rows) if rows else ["There are none."]


def _controls(audit: Audit) -> list[str]:
    support = _support(audit)
    rows = [(clause, wanted, support[by]) for clause, wanted, by in CONTROLS]
    return [
        "This is no statement of compliance. It names, for those who make one, what in this bundle they can point to.",
        "",
        *_table(("clause", "is about", "here"), rows),
    ]


def _support(audit: Audit) -> Mapping[str, str]:
    """What the bundle holds of each kind, in words; where it holds nothing, that is said."""
    opened = audit.opened
    leaves = opened.leaves.values()
    times = [leaf.time for leaf in leaves]
    days = (max(times) - min(times)) // 86_400 if times else 0
    grants = sum(len(decision.kept.grants) for decision in opened.decisions)
    return {
        "leases": _some(
            sum(leaf.event in DECIDED for leaf in leaves), "releases and renewals, with purpose and workload"
        ),
        "keys": _some(grants, "keys released only to workers that proved themselves, sealed to each"),
        "log": _some(len(opened.leaves), "leaves of an append-only log, included under one signed checkpoint"),
        "span": _some(days, "days between the first and the last leaf here"),
        "evidence": _some(len(opened.decisions), "pieces of hardware evidence, appraised again"),
        "policies": _some(len(opened.policies), "policies, signed by their owner"),
        "endings": _some(
            sum(leaf.event == REVOCATION for leaf in leaves), "revocations; every lease also ends by itself"
        ),
    }


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count else "nothing in this bundle"


def _time(seconds: int) -> str:
    if not 0 <= seconds <= LATEST:
        return "at no time that a calendar has"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _code(text: str) -> str:
    """`text` as a span of code in a cell, whatever it holds."""
    plain = "".join(char if char.isprintable() and char not in "`|<>&\\" else "·" for char in text)
    return f"`{plain}`"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
