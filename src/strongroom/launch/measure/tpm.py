"""The PCRs of a machine with OVMF and a TPM: what can be computed before it has ever booted, and what cannot.

Knows: what goes into each register (TCG PC Client Platform Firmware Profile, 3.3.4; systemd "TPM2 PCR Measurements Made by
systemd" for 11, 12 and 13). Computed: 2 to 9, 11 to 13. Not computable: PCR 0, because OVMF measures a volume that its own
start has already written into; it is one value for one build of the firmware, so the specification may bring it, observed
once. PCR 1 (boot entries, devices) is a matter of each host. With Secure Boot, 7 goes on with the authority that let the
image start, and must be observed as well. Does not know: which PCRs a policy wants.

This holds for machines as `launch.qemu` and `launch.libvirt` make them: no option ROMs (PCR 2), and an image that is booted
from a disk without a partition table (PCR 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from strongroom.launch.measure import uefi
from strongroom.launch.measure.expected import Chain, Expected
from strongroom.records.launch import Firmware, LaunchSpec
from strongroom.tee.eventlog import codes

UNTOUCHED = ("pcr8", "pcr11", "pcr12", "pcr13", "pcr14")
SEPARATED = ("pcr2", "pcr3", "pcr5", "pcr6")
PHASE = "boot phase"


def pcrs(
    spec: LaunchSpec, firmware: Firmware, files: uefi.Files, variables: Mapping[tuple[str, str], bytes], bank: str
) -> Expected:
    """The PCRs of one bank. Raises `MalformedImage`, `NotMeasurable`."""
    chain = Chain(bank)
    chain.give_up("pcr0", "OVMF measures volumes that its start has changed: observe it once for this firmware")
    chain.give_up("pcr1", "boot entries and devices are a matter of each host")
    chain.give_up("pcr15", "zeros at launch; the worker extends it while it runs")
    uefi.secure_boot(chain, "pcr7", firmware, variables)
    if firmware.secure_boot == "on":
        chain.give_up("pcr7", "the authority that lets the image start is found at boot: observe it once")
    for register in SEPARATED:
        chain.data(register, codes.SEPARATOR, uefi.SEPARATOR, uefi.PATH, "without error")
    uefi.images(chain, "pcr4", spec, files)
    if files.uki is not None:
        uefi.sections(chain, "pcr11", files.uki)
    for phase in spec.boot.phases:
        chain.data("pcr11", codes.IPL, phase.encode(), PHASE, phase)
    uefi.handed_over(chain, "pcr9", spec, files)
    uefi.leaving(chain, "pcr5")
    for register, value in firmware.observed.items():
        of_this_bank = len(value) == 2 * hashlib.new(bank).digest_size
        if of_this_bank and register in chain.unknown:
            chain.fix(register, value)
    return chain.finish("tpm", UNTOUCHED)
