"""The one codec of all records; the first byte chooses the record. What decodes encodes, and decodes to the same again."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.receipts.receipt import ReceiptDocument, SealedReceipt
    from strongroom.records import codec
    from strongroom.records.artifact import SealedIndex, SealHeader
    from strongroom.records.evidence import Collateral, EvidenceBundle
    from strongroom.records.job import JobSpec
    from strongroom.records.policy import Policy
    from strongroom.records.receipt import Receipt
    from strongroom.records.release import Challenge, Grant, Leaf, Lease, LogProof, ReleaseAnswer, ReleaseRequest
    from strongroom.records.session import WorkerProof
    from strongroom.records.verdict import Verdict
    from strongroom.records.worker import Configuration

KINDS = (
    EvidenceBundle, Policy, Collateral, SealHeader, SealedIndex, JobSpec, Receipt, Challenge, Grant, Leaf, Lease, LogProof,
    ReleaseAnswer, ReleaseRequest, WorkerProof, Verdict, Configuration, SealedReceipt, ReceiptDocument,
)  # fmt: skip


def one(data: bytes) -> None:
    kind = KINDS[data[0] % len(KINDS)] if data else Policy
    with suppress(StrongroomError):
        record = codec.decode(kind, data[1:])
        if codec.decode(kind, codec.encode(record)) != record:
            raise AssertionError(kind)


def seeds() -> list[bytes]:
    leaf = Leaf("release", 1, "lease", (samples.IMAGE,), "level=simulated")
    made = [(0, samples.bundle()), (1, samples.policy()), (2, samples.bundle().collateral), (9, leaf)]
    made += [(16, Configuration("inference", samples.IMAGE, {"context": 1, "name": "x"}, None))]
    return [bytes([number]) + codec.encode(record) for number, record in made]


if __name__ == "__main__":
    run(one, seeds)
