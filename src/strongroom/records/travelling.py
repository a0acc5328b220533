"""The records that travel between people, by the name under which their schema is published.

Knows: the list. Does not know: anything about a record; golden files and `docs/reference/schemas` hold one of each.
"""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.records.azure import AzureEvidence
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.google import GoogleEvidence
from strongroom.records.job import JobSpec
from strongroom.records.launched import WipeReceipt
from strongroom.records.policy import Policy
from strongroom.records.receipt import Receipt
from strongroom.records.reference import CustodyList, ReferenceValues
from strongroom.records.release import Grant, ReleaseAnswer, ReleaseRequest
from strongroom.records.tpm import TpmEnrolment, TpmQuote
from strongroom.records.verdict import Verdict
from strongroom.records.worker import Configuration, Keyset, Statement

TRAVELLING: Mapping[str, type] = {
    "azure-evidence": AzureEvidence,
    "collateral": Collateral,
    "configuration": Configuration,
    "custody": CustodyList,
    "evidence-bundle": EvidenceBundle,
    "google-evidence": GoogleEvidence,
    "grant": Grant,
    "job": JobSpec,
    "keyset": Keyset,
    "policy": Policy,
    "receipt": Receipt,
    "reference-values": ReferenceValues,
    "release-answer": ReleaseAnswer,
    "release-request": ReleaseRequest,
    "statement": Statement,
    "tpm-enrolment": TpmEnrolment,
    "tpm-quote": TpmQuote,
    "verdict": Verdict,
    "wipe-receipt": WipeReceipt,
}
