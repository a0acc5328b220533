"""A simulated TDX platform: it protects nothing.

Real TDX quotes and collateral, in Intel's structures, under a root that is made per installation and never shipped.
The production parsers, verifiers and collectors of strongroom run on them unchanged; the class of the trust anchor
alone makes their level `simulated`. For development, tests and the demo; refused beside a real TEE.
"""

from strongroom_sim.ca import Installation
from strongroom_sim.chip import Chip
from strongroom_sim.launch import measure_image, mrconfigid_for, mrtd_for, reference_for

__all__ = ["Chip", "Installation", "measure_image", "mrconfigid_for", "mrtd_for", "reference_for"]
