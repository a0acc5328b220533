"""AMD SEV-SNP: reports of versions 2, 3 and 5 with certificates of AMD's KDS. `Collector` is for inside a guest."""

from strongroom.tee.snp.collect import Collector, detect
from strongroom.tee.snp.parse import Report, parse_report
from strongroom.tee.snp.verify import verify

__all__ = ["Collector", "Report", "detect", "parse_report", "verify"]
