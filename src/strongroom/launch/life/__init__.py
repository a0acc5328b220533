"""The life of a launched machine: PREFLIGHT, PLANNED, BOOTED, ATTESTED, READY, DRAINING, WIPED; or FAILED.

    states     which state may follow which; pure
    journal    what was reached, written down before anything else is done; a crash at any step is picked up again from it
    staging    the pinned files, copied and checked; measured and booted are the same bytes
    fat        the boot disk
    drivers    QEMU as processes of our own, or libvirt
    attest     evidence from the machine, and the broker's verdict
    leavings   which files and leases are a launch's own
    wipe       what is destroyed, in which order, and the signed receipt
    launcher   the steps, in their order

Nothing that the host, the hypervisor or the machine's console says makes a machine READY: only evidence for our own nonce that equals
the registers computed before the boot, and a broker's release that a pinned fingerprint signed.
"""

from strongroom.launch.life.launcher import Launcher, Status

__all__ = ["Launcher", "Status"]
