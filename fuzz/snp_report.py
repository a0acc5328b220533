"""SEV-SNP reports with the certificates that come with them, and the host's certificate table."""

import functools
import struct
import uuid
from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.errors import StrongroomError
    from strongroom.records.evidence import AmdCollateral
    from strongroom.tee.anchors import TrustAnchor, installation_anchor
    from strongroom.tee.snp.parse import REPORT_BYTES, parse_report
    from strongroom.tee.snp.table import VCEK_ENTRY, parse_table
    from strongroom.tee.snp.verify import verify
    from strongroom_sim.snp import SnpChip, SnpInstallation

NOW = 1_790_000_000


@functools.cache
def made() -> tuple[SnpChip, AmdCollateral, list[TrustAnchor]]:
    """A simulated chip, its collateral and its anchor."""
    installation = SnpInstallation.generate(now=NOW)
    chip = SnpChip(installation, measurement=bytes(48), now=NOW)
    return chip, chip.collateral(NOW), [installation_anchor("snp", installation.root_pem)]


def one(data: bytes) -> None:
    """The report is what comes first, whatever follows it is its leaf; both are a table as well."""
    _, collateral, anchors = made()
    with suppress(StrongroomError):
        parse_table(data)
    with suppress(StrongroomError):
        parse_report(data)
    with suppress(StrongroomError):
        report = parse_report(data[:REPORT_BYTES])
        leaf = data[REPORT_BYTES:] or collateral.leaf
        genuine = verify(report, AmdCollateral(leaf, collateral.chain, collateral.crl), anchors, NOW)
        if genuine.holds and report.signed not in {parse_report(seed).signed for seed in reports()}:
            raise AssertionError("a report that no chip made was found genuine")


@functools.cache
def reports() -> tuple[bytes, ...]:
    """Two reports of the chip."""
    chip, _, _ = made()
    return chip.report(bytes(64)), chip.report(bytes(range(64)))


def seeds() -> list[bytes]:
    _, collateral, _ = made()
    table = uuid.UUID(VCEK_ENTRY).bytes + struct.pack("<II", 48, len(collateral.leaf)) + bytes(24) + collateral.leaf
    return [*reports(), reports()[0] + collateral.leaf, table]


if __name__ == "__main__":
    run(one, seeds)
