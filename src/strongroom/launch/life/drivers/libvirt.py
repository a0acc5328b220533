"""libvirt as the driver, by its Python API (extra `libvirt`; Debian: python3-libvirt).

Knows: how a domain is defined, started, asked to power off, ended and forgotten (libvirt.org, "Domain management"), and where libvirt
keeps the software TPM that it runs itself. Does not know: the domain's XML (`launch.libvirt`). A domain of this name that is not of this
launch's folder is never touched. libvirt has its chips certified by whoever `/etc/swtpm_setup.conf` names; another configuration is given
as `tpm_config`, and then the chip is made here, before libvirt looks for one. Not covered: remote connections; several domains of one name.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

from strongroom.errors import HypervisorUnavailable, UsageError
from strongroom.launch.libvirt import OURS, Dialect, domain
from strongroom.launch.life import processes
from strongroom.launch.life.drivers import chips
from strongroom.launch.life.drivers.qemu import require_version
from strongroom.launch.life.files import make_folder
from strongroom.launch.place import Place
from strongroom.records.launch import LaunchSpec
from strongroom.records.launched import Running

SYSTEM = "qemu:///system"
TPMS, RUN = Path("/var/lib/libvirt/swtpm"), Path("/run/libvirt/qemu")
LOGS, TPM_LOGS = Path("/var/log/libvirt/qemu"), Path("/var/log/swtpm/libvirt/qemu")
LEAST_UNDEFINE = 8_009_000
"""libvirt's version since which it takes away a software TPM's state when a domain is undefined."""
END_SECONDS, PAUSE_SECONDS = 5.0, 0.1
TRAVERSABLE = 0o711
MILLION, THOUSAND = 1_000_000, 1000


class Libvirt:
    """Machines as domains of libvirt on this host.

    `dialect` is that of its packages, where they differ (`launch.libvirt`); `tpm_config` as in `chips`.
    """

    name = "libvirt"

    def __init__(self, uri: str = SYSTEM, *, dialect: Dialect = "upstream", tpm_config: Path | None = None) -> None:
        self._uri, self._dialect, self._tpm_config = uri, dialect, tpm_config

    def check(self, spec: LaunchSpec, place: Place) -> None:
        """See `Driver.check`."""
        for folder in place.state.parents:
            if not folder.stat().st_mode & 0o001:
                raise UsageError(
                    f"libvirt's account cannot reach {folder}",
                    remedy="Choose a folder below /var/lib, or chmod o+x it.",
                )
        with self._connected() as (_, connection):
            version = connection.getVersion()
            self._ours(connection, spec, place)
        if self._tpm_config is not None and not (shutil.which(chips.SETUP) and os.access(TPMS, os.W_OK)):
            raise UsageError(
                f"{chips.SETUP} is missing, or {TPMS} is not ours to write",
                remedy="Be root where you give --tpm-config for libvirt, or leave it to /etc/swtpm_setup.conf.",
            )
        require_version(spec, f"version {version // MILLION}.{version // THOUSAND % THOUSAND}")

    def start(self, spec: LaunchSpec, place: Place) -> Running:
        """See `Driver.start`."""
        self.forget(spec, place)
        place.state.chmod(TRAVERSABLE)
        with self._connected() as (libvirt, connection):
            made = connection.defineXML(domain(spec, place, dialect=self._dialect))
            if self._tpm_config is not None and spec.tee == "tpm":
                chips.make(_chip(made.UUIDString()), self._tpm_config)
            made.create()
            for host, guest in place.ports.items():
                self._forward(libvirt, made, host, guest)
        found = self.find(spec, place)
        if found is None:
            raise HypervisorUnavailable("libvirt started no machine")
        return found

    def _forward(self, libvirt: Any, made: Any, host: int, guest: int) -> None:
        """Domains of user networking have no words for a forwarded port before passt: QEMU's own monitor has."""
        import libvirt_qemu

        command = f"hostfwd_add hostnet0 tcp:127.0.0.1:{host}-:{guest}"
        flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        try:
            said = libvirt_qemu.qemuMonitorCommand(made, command, flags)
        except libvirt.libvirtError as error:
            said = str(error)
        if said.strip():
            raise HypervisorUnavailable(f"port {host} is not forwarded: {said.strip()[:200]}")

    def find(self, spec: LaunchSpec, place: Place) -> Running | None:
        """See `Driver.find`."""
        with self._connected() as (_, connection):
            found = self._ours(connection, spec, place)
            if found is None:
                return None
            return Running(self.name, self._process(spec) if found.isActive() else (), found.UUIDString())

    def _process(self, spec: LaunchSpec) -> tuple[Any, ...]:
        try:
            process = processes.identify(int((RUN / f"{spec.name}.pid").read_text("ascii")))
        except (OSError, ValueError):
            process = None
        return () if process is None else (process,)

    def alive(self, running: Running) -> bool:
        """See `Driver.alive`."""
        with self._connected() as (libvirt, connection):
            try:
                found = connection.lookupByUUIDString(running.endpoint)
            except libvirt.libvirtError:
                return False
            return bool(found.isActive()) and all(processes.alive(process) for process in running.processes)

    def drain(self, spec: LaunchSpec, place: Place, seconds: float) -> str:
        """See `Driver.drain`."""
        with self._connected() as (libvirt, connection):
            found = self._ours(connection, spec, place)
            if found is None or not found.isActive():
                return "not running"
            ways: tuple[tuple[Callable[[], Any], float, str], ...] = (
                (found.shutdown, seconds, "powered off"),
                (lambda: found.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL), END_SECONDS, "quit"),
                (found.destroy, END_SECONDS, "killed"),
            )
            for ask, patience, how in ways:
                with contextlib.suppress(libvirt.libvirtError):
                    ask()
                if _until(lambda: not found.isActive(), patience):
                    return how
        raise HypervisorUnavailable("libvirt does not end the machine")

    def remains(self, spec: LaunchSpec, place: Place) -> tuple[str, ...]:
        """See `Driver.remains`."""
        found = self.find(spec, place)
        folder = TPMS / found.endpoint if found is not None else None
        return () if folder is None else tuple(sorted(str(path) for path in folder.rglob("*") if path.is_file()))

    def traces(self, spec: LaunchSpec, place: Place) -> tuple[str, ...]:
        """See `Driver.traces`: what libvirt and its software TPM wrote about a domain of this name, older logs too."""
        if self.find(spec, place) is None:
            return ()
        found = []
        for folder, name in ((LOGS, f"{spec.name}.log"), (TPM_LOGS, f"{spec.name}-swtpm.log")):
            rolled = re.compile(rf"{re.escape(name)}(\.\d+)?")
            try:
                found += [str(path) for path in sorted(folder.iterdir()) if rolled.fullmatch(path.name)]
            except FileNotFoundError:
                continue
            except OSError as error:
                raise HypervisorUnavailable(f"{folder}: {error.strerror}", remedy="Be root for libvirt.") from None
        return tuple(found)

    def forget(self, spec: LaunchSpec, place: Place) -> None:
        """See `Driver.forget`."""
        with self._connected() as (libvirt, connection):
            found = self._ours(connection, spec, place)
            if found is None:
                return
            if found.isActive():
                raise HypervisorUnavailable("the machine still runs")
            flags = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            if libvirt.getVersion() >= LEAST_UNDEFINE:
                flags |= libvirt.VIR_DOMAIN_UNDEFINE_TPM
            found.undefineFlags(flags)

    def _ours(self, connection: Any, spec: LaunchSpec, place: Place) -> Any:
        """The domain of this launch; None where there is none. Raises `UsageError` for another's of this name."""
        found = next((one for one in connection.listAllDomains() if one.name() == spec.name), None)
        if found is not None and _launch_of(found.XMLDesc()) != (str(place.state), spec.digest):
            raise UsageError(
                f"libvirt has another domain that is named {spec.name}",
                remedy="Undefine it, or rename the specification.",
            )
        return found

    @contextlib.contextmanager
    def _connected(self) -> Iterator[tuple[Any, Any]]:
        """The library and a connection; what libvirt raises becomes `HypervisorUnavailable`."""
        try:
            import libvirt
            import libvirt_qemu  # noqa: F401 (looked for before anything is defined, not when a port is forwarded)
        except ImportError:
            raise HypervisorUnavailable(
                "libvirt's Python API is missing",
                remedy="pip install 'strongroom[libvirt]', or apt install python3-libvirt.",
            ) from None
        libvirt.registerErrorHandler(lambda *_: None, None)  # it would print on standard error
        try:
            connection = libvirt.open(self._uri)
            try:
                yield libvirt, connection
            finally:
                connection.close()
        except libvirt.libvirtError as error:
            raise HypervisorUnavailable(f"libvirt: {str(error)[:300]}") from None


def _launch_of(xml: str) -> tuple[str | None, str | None]:
    """Folder and specification of a domain, as it was defined; None of one that no launch defined."""
    told = fromstring(xml).find(f"metadata/{{{OURS}}}launch")  # noqa: S314 (libvirt's own words)
    return (None, None) if told is None else (told.get("state"), told.get("spec"))


def _chip(domain_id: str) -> Path:
    """The new folder in which libvirt will find a chip of this domain, and make none; it hands its files to the chip's account."""
    folder = TPMS / domain_id / "tpm2"
    make_folder(folder.parent, mode=TRAVERSABLE)
    make_folder(folder)
    return folder


def _until(ended: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not ended():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True
