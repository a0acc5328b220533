"""A job's receipt, checked by whoever holds the job and its outputs.

Knows: what a job's request and response are. Does not know: how a job runs; a recipient needs none of that installed.
"""

from __future__ import annotations

from strongroom.client.documents import Checked, check_document
from strongroom.client.verification import Trust
from strongroom.crypto.signatures import PublicKey, fingerprint
from strongroom.errors import ReceiptInvalid
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records.digest import Digest, raw
from strongroom.records.job import JobResult, JobSpec


def check_result(document: ReceiptDocument, spec: JobSpec, outputs: Digest, signer: PublicKey, trust: Trust) -> Checked:
    """That a worker we trust ran this job to its end, and that `outputs`, signed by `signer`, are all that came of it.

    Raises `ReceiptInvalid`, and what `check_document` raises.
    """
    checked = check_document(document, trust)
    if checked.receipt.workload != "job" or document.request_sha256 != raw(spec.digest):
        raise ReceiptInvalid("this receipt is for another job", detail="request")
    if checked.receipt.artifacts != spec.inputs:
        raise ReceiptInvalid("this receipt names other inputs than the job", detail="artifacts")
    if document.response_sha256 != raw(JobResult(spec.digest, outputs, fingerprint(signer)).digest):
        raise ReceiptInvalid("this receipt names other outputs, or another key that signed them", detail="response")
    return checked
