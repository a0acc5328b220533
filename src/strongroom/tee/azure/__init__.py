"""Azure's paravisor report: the container in which a confidential VM of Azure shows its hardware report and its AK.

Not a kind of evidence by itself: `appraisal.kinds` joins it with the hardware's report and the vTPM's quote.
"""

from strongroom.tee.azure.parse import AZURE_REPORT_BYTES, AzureReport, Runtime, parse_report, parse_runtime

__all__ = ["AZURE_REPORT_BYTES", "AzureReport", "Runtime", "parse_report", "parse_runtime"]
