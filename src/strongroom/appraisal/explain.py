"""Which check failed, in words for the person who has to mend it.

Knows: what usually makes a check fail and what to do. Does not know: how checks are made.
"""

from __future__ import annotations

from strongroom.records.verdict import Check, Status, Verdict

CAUSES: tuple[tuple[str, str], ...] = (
    ("binding.nonce", "the evidence answers another nonce: it was recorded earlier, or made for somebody else"),
    ("binding.report_data", "keyset, statement or purpose were changed after the hardware signed them"),
    ("binding.purpose", "evidence made for one purpose was shown for another"),
    ("statement.image", "other code runs there than the policy's reference values name; rebuild, or add its reference"),
    ("statement.launch_spec", "the machine was launched from another specification"),
    ("statement.events", "what the worker says it opened is not what it measured"),
    ("events.replay", "an event was left out, added or changed"),
    ("policy.artifacts", "an artifact is open there that the policy does not name"),
    ("policy.configuration", "the worker was configured otherwise: another broker, engine or setting"),
    ("policy.level", "the place protects less (or other) than the policy demands"),
    (
        "policy.tdx.tcb_status",
        "firmware or microcode of the platform is behind; update it, or admit the status by name",
    ),
    ("policy.tdx.debug", "the TD can be debugged by its host"),
    ("tdx.pck", "the certificate chain does not lead to a root that was given"),
    ("tdx.tcb_info", "the collateral is stale, signed by another role, or for another platform"),
    ("tdx.", "the quote or its collateral does not hold"),
)


def cause(check: Check) -> str:
    """What usually makes this check fail; empty if nothing better than its detail is known."""
    return next((text for prefix, text in CAUSES if check.id.startswith(prefix)), "")


def explain(verdict: Verdict) -> list[tuple[Check, str]]:
    """Each check that did not pass, with its usual cause; failures before those that were not run."""
    ordered = sorted(verdict.failed, key=lambda check: check.status is Status.NOT_RUN)
    return [(check, cause(check)) for check in ordered]
