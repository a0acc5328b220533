"""QEMU and a software TPM as processes of our own, in sessions of their own.

Knows: how both are started so that they outlive the launcher (`-daemonize`, `--daemon`), QEMU's monitor, where their files are. Does
not know: which arguments make the machine (`launch.qemu`). The TPM ends with the machine (`--terminate`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from pathlib import Path

from strongroom.errors import FileUnreadable, HostNotReady, HypervisorUnavailable, UsageError
from strongroom.launch.life import processes
from strongroom.launch.life.drivers import chips
from strongroom.launch.life.files import make_folder
from strongroom.launch.life.qmp import Monitor
from strongroom.launch.place import Place
from strongroom.launch.qemu import PROGRAM, arguments
from strongroom.records.launch import LaunchSpec
from strongroom.records.launched import ProcessId, Running

TPM = "swtpm"
START_SECONDS, QUIT_SECONDS, TPM_SECONDS = 60.0, 5.0, 2.0
LONGEST_SOCKET = 107
"""Bytes of a unix socket's path (unix(7): 108 with the end)."""
_VERSION = re.compile(r"version (\d+\.\d+)")


class Qemu:
    """Machines as QEMU processes on this host. Without `tpm_config` (see `chips`) nobody has certified their chips, or can enrol them."""

    name = "qemu"

    def __init__(self, tpm_config: Path | None = None) -> None:
        self._tpm_config = tpm_config

    def check(self, spec: LaunchSpec, place: Place) -> None:
        """See `Driver.check`."""
        chip = (TPM,) if self._tpm_config is None else (TPM, chips.SETUP)
        for program in (PROGRAM, *(chip if spec.tee == "tpm" else ())):
            if shutil.which(program) is None:
                raise HypervisorUnavailable(f"missing program: {program}")
        for path in (monitor(place), place.tpm):
            if len(os.fsencode(path)) > LONGEST_SOCKET:
                raise UsageError(
                    f"{path} is too long for a socket",
                    remedy=f"Choose a folder with a shorter path ({LONGEST_SOCKET} bytes).",
                )
        require_version(spec, processes.run([PROGRAM, "--version"]))

    def start(self, spec: LaunchSpec, place: Place) -> Running:
        """See `Driver.start`."""
        for path in (monitor(place), place.tpm, _pid_file(place), _tpm_pid_file(place)):
            path.unlink(missing_ok=True)
        if spec.tee == "tpm":
            self._start_tpm(place)
        words = [*arguments(spec, place), *("-qmp", f"unix:{_option(monitor(place))},server=on,wait=off")]
        processes.run([*words, "-pidfile", str(_pid_file(place)), "-daemonize"])
        with Monitor(monitor(place)) as asked:
            status = asked.ask("query-status")
        found = self.find(spec, place)
        if found is None or not isinstance(status, dict) or status.get("status") != "running":
            raise HypervisorUnavailable("QEMU started no machine")
        return found

    def _start_tpm(self, place: Place) -> None:
        make_folder(place.state / "tpm")
        if self._tpm_config is not None:
            chips.make(place.state / "tpm", self._tpm_config)
        state, control = f"dir={place.state / 'tpm'},mode=0600", f"type=unixio,path={place.tpm}"
        words = [
            TPM,
            "socket",
            "--tpm2",
            "--tpmstate",
            state,
            "--ctrl",
            control,
            "--flags",
            "startup-clear",
            "--terminate",
        ]
        processes.run([*words, "--pid", f"file={_tpm_pid_file(place)}", "--daemon"])
        deadline = time.monotonic() + START_SECONDS
        while not place.tpm.exists():
            if time.monotonic() > deadline:
                raise HypervisorUnavailable("the software TPM does not answer")
            time.sleep(0.01)

    def find(self, spec: LaunchSpec, place: Place) -> Running | None:
        """See `Driver.find`."""
        found = (*self._machines(place), *self._tpms(spec, place))
        return Running(self.name, found, str(monitor(place))) if found else None

    def _machines(self, place: Place) -> tuple[ProcessId, ...]:
        return processes.with_word(PROGRAM, str(_pid_file(place)))

    def _tpms(self, spec: LaunchSpec, place: Place) -> tuple[ProcessId, ...]:
        return processes.with_word(TPM, f"file={_tpm_pid_file(place)}") if spec.tee == "tpm" else ()

    def alive(self, running: Running) -> bool:
        """See `Driver.alive`."""
        return bool(running.processes) and all(processes.alive(process) for process in running.processes)

    def drain(self, spec: LaunchSpec, place: Place, seconds: float) -> str:
        """See `Driver.drain`."""
        how = "not running"
        for machine in self._machines(place):
            how = self._end(machine, place, seconds)
        for chip in self._tpms(spec, place):
            if not processes.wait(chip, TPM_SECONDS) and not processes.end(chip, seconds=TPM_SECONDS):
                raise HypervisorUnavailable("the software TPM does not end", detail=f"process {chip.pid}")
        return how

    def _end(self, machine: ProcessId, place: Place, seconds: float) -> str:
        for command, patience, how in (("system_powerdown", seconds, "powered off"), ("quit", QUIT_SECONDS, "quit")):
            with contextlib.suppress(HypervisorUnavailable), Monitor(monitor(place)) as asked:
                asked.ask(command)
                if processes.wait(machine, patience):
                    return how
        if not processes.end(machine, seconds=QUIT_SECONDS, first=signal.SIGKILL):
            raise HypervisorUnavailable("QEMU does not end", detail=f"process {machine.pid}")
        return "killed"

    def remains(self, spec: LaunchSpec, place: Place) -> tuple[str, ...]:
        """See `Driver.remains`."""
        del spec
        return tuple(sorted(str(path) for path in (place.state / "tpm").glob("*") if not path.is_dir()))

    def traces(self, spec: LaunchSpec, place: Place) -> tuple[str, ...]:
        """See `Driver.traces`: it writes nowhere else."""
        del spec, place
        return ()

    def forget(self, spec: LaunchSpec, place: Place) -> None:
        """See `Driver.forget`."""
        del spec
        folder = place.state / "tpm"
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise FileUnreadable(f"{folder}: {error.strerror}") from None


def require_version(spec: LaunchSpec, said: str) -> None:
    """Whether this QEMU is the one that the registers were computed for. Raises `HostNotReady`."""
    found = _VERSION.search(said)
    if found is None or found[1] != spec.machine.qemu:
        raise HostNotReady(
            f"the specification is for QEMU {spec.machine.qemu}, here is {found[1] if found else 'an unknown one'}",
            remedy="Install that version, or measure again with the version of this host in `machine.qemu`.",
        )


def monitor(place: Place) -> Path:
    """Where QEMU's monitor listens."""
    return place.state / "qmp.sock"


def _pid_file(place: Place) -> Path:
    return place.state / "qemu.pid"


def _tpm_pid_file(place: Place) -> Path:
    return place.state / "swtpm.pid"


def _option(path: Path) -> str:
    return str(path).replace(",", ",,")
