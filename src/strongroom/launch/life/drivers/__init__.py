"""Who starts a machine: the port, and which drivers there are.

Knows: what every driver does. Does not know: states (`launcher`), or what a machine proves. A driver finds what runs by the launch's
own folder, so that also what a crashed launcher started and did not write down is found. Third parties' drivers are given to `Launcher`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from strongroom.errors import UsageError
from strongroom.launch.place import Place
from strongroom.records.launch import LaunchSpec
from strongroom.records.launched import Running

NAMES = ("qemu", "libvirt")


class Driver(Protocol):
    """Starts and ends machines. Every verb may raise `HypervisorUnavailable`."""

    @property
    def name(self) -> str:
        """The driver's word in journals."""
        ...

    def check(self, spec: LaunchSpec, place: Place) -> None:
        """Whether it could start this here: programs, versions, names of sockets. Raises `UsageError` or `HostNotReady` too."""

    def start(self, spec: LaunchSpec, place: Place) -> Running:
        """Start the machine; it runs on when the launcher ends."""
        ...

    def find(self, spec: LaunchSpec, place: Place) -> Running | None:
        """What of this launch runs, or is set up, now."""
        ...

    def alive(self, running: Running) -> bool:
        """Whether all of the machine that was started still runs."""
        ...

    def drain(self, spec: LaunchSpec, place: Place, seconds: float) -> str:
        """Ask the guest to power off, wait, then end it: `powered off`, `quit`, `killed`, or `not running`.

        It runs no more when this returns. Raises `HypervisorUnavailable` where it does not end.
        """
        ...

    def remains(self, spec: LaunchSpec, place: Place) -> tuple[str, ...]:
        """Paths of files that hold the software TPM's state."""
        ...

    def traces(self, spec: LaunchSpec, place: Place) -> tuple[str, ...]:
        """Paths of files elsewhere than in the launch's folder in which the hypervisor wrote about the machine."""
        ...

    def forget(self, spec: LaunchSpec, place: Place) -> None:
        """Take away what is set up besides files; nothing happens where there is nothing."""


def driver(name: str, *, tpm_config: Path | None = None) -> Driver:
    """A driver by its name; `tpm_config` is a configuration of `swtpm_setup` (see `chips`). Raises `UsageError`."""
    if name == "qemu":
        from strongroom.launch.life.drivers.qemu import Qemu

        return Qemu(tpm_config)
    if name == "libvirt":
        from strongroom.launch.life.drivers.libvirt import Libvirt

        return Libvirt(tpm_config=tpm_config)
    raise UsageError(f"there is no driver {name[:32]!r}", remedy=f"Choose one of {', '.join(NAMES)}.")
