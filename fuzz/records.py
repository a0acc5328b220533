"""The one codec of all records; the first byte chooses the record. What decodes encodes, and decodes to the same again."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.receipts.receipt import ReceiptDocument, SealedReceipt
    from strongroom.records import codec
    from strongroom.records.artifact import SealedIndex, SealHeader
    from strongroom.records.azure import AzureEvidence
    from strongroom.records.cell import Advance, Cell, CellAnswer, CellKind, CellView, Spend
    from strongroom.records.evidence import Collateral, EvidenceBundle
    from strongroom.records.job import JobSpec
    from strongroom.records.policy import Policy
    from strongroom.records.receipt import Receipt
    from strongroom.records.reference import CustodyList, Machine, Reference, ReferenceValues
    from strongroom.records.release import Challenge, Grant, Leaf, Lease, LogProof, ReleaseAnswer, ReleaseRequest
    from strongroom.records.session import WorkerProof
    from strongroom.records.tpm import TpmEnrolment, TpmQuote
    from strongroom.records.verdict import RootClass, Verdict
    from strongroom.records.worker import Configuration

KINDS = (
    EvidenceBundle, Policy, Collateral, SealHeader, SealedIndex, JobSpec, Receipt, Challenge, Grant, Leaf, Lease, LogProof,
    ReleaseAnswer, ReleaseRequest, WorkerProof, Verdict, Configuration, SealedReceipt, ReceiptDocument, ReferenceValues,
    CustodyList, TpmQuote, TpmEnrolment, AzureEvidence,
    Advance, Spend, CellAnswer, CellView,
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
    reference = Reference(image=samples.IMAGE, kind="tdx", registers={"mrtd": ("00" * 48,)})
    quote = TpmQuote(b"attest", b"signature", b"", {"sha256": {"0": "00" * 32}})
    note = TpmEnrolment("00", samples.IMAGE, samples.IMAGE, RootClass.SILICON, b"key", 1, 2)
    machine = Machine("ppid", "00" * 16, "allow", "site", "EU")
    made += [(19, ReferenceValues("builder", 1, (reference,), ())), (20, CustodyList("custodian", 1, 1, 2, (machine,)))]
    made += [(21, quote), (22, note), (23, AzureEvidence(b"report", b"{}", quote))]
    cell = Cell("epsilon", CellKind.BUDGET, "policy", 9, None, 8, None, 1, 1)
    proof = LogProof(0, codec.encode(leaf), (), "checkpoint")
    made += [(24, Advance("steps", "lease", b"n" * 32, 0, 1, samples.IMAGE)), (26, CellAnswer(8, None, proof, ()))]
    made += [(25, Spend("epsilon", "lease", b"n" * 32, 1, "query", None)), (27, CellView(b"n" * 32, cell))]
    return [bytes([number]) + codec.encode(record) for number, record in made]


if __name__ == "__main__":
    run(one, seeds)
