"""Host preflight: what of this machine is ready for which purpose, and what to do about the rest.

Knows: which parts there are: `host` (reading a machine, or a copy of one), `probe` (what files do not say), `facts` (parsers),
the checks by area, `table` (all of them, and who asks for which), `report`, `matrix`. Does not know: evidence and verdicts.

**A host speaks for itself here, and can lie.** Preflight saves the time of an honest operator; it proves nothing to anybody.
"""

from strongroom.launch.doctor.finding import Check, Finding, Status
from strongroom.launch.doctor.host import Host, machine
from strongroom.launch.doctor.probe import LinuxProbe, Probe, SilentProbe
from strongroom.launch.doctor.report import Report, examine
from strongroom.launch.doctor.table import CHECKS, PURPOSES, purposes_of

__all__ = [
    "CHECKS",
    "PURPOSES",
    "Check",
    "Finding",
    "Host",
    "LinuxProbe",
    "Probe",
    "Report",
    "SilentProbe",
    "Status",
    "examine",
    "machine",
    "purposes_of",
]
