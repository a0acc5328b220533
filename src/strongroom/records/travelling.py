"""The records that travel between people, by the name under which their schema is published.

Knows: the list. Does not know: anything about a record; golden files and `docs/reference/schemas` hold one of each.
"""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.records.evidence import EvidenceBundle
from strongroom.records.job import JobSpec
from strongroom.records.policy import Policy
from strongroom.records.receipt import Receipt
from strongroom.records.release import Grant, ReleaseAnswer, ReleaseRequest
from strongroom.records.verdict import Verdict
from strongroom.records.worker import Configuration, Keyset, Statement

TRAVELLING: Mapping[str, type] = {
    "configuration": Configuration,
    "evidence-bundle": EvidenceBundle,
    "grant": Grant,
    "job": JobSpec,
    "keyset": Keyset,
    "policy": Policy,
    "receipt": Receipt,
    "release-answer": ReleaseAnswer,
    "release-request": ReleaseRequest,
    "statement": Statement,
    "verdict": Verdict,
}
