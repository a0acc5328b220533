"""What a launch leaves: which files in its folder are its own, and which leases its machine has shown.

Knows: the names that a launch gives to its files, which is all that a wipe may touch. Does not know: how they are destroyed (`wipe`).
A folder is taken only while nothing else lies in it, and its own folders are never links: what is wiped there later was made there.
Not covered: who puts files of such names into the folder afterwards.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from strongroom.errors import UsageError
from strongroom.launch.life import staging, wipe
from strongroom.launch.life.drivers import Driver
from strongroom.launch.life.files import part_of
from strongroom.launch.life.journal import EVIDENCE, LOCK, NAME, Journal
from strongroom.launch.place import Place
from strongroom.records import codec
from strongroom.records.launch import LaunchSpec
from strongroom.records.launched import State

KEY = "launcher.pem"
OURS = frozenset({LOCK, KEY, EVIDENCE})
"""What may lie in a folder without a journal: a launcher that was killed at once has left no more."""
FOLDERS = (staging.IMAGES, "tpm", EVIDENCE)
RUNTIME = ("qmp.sock", "tpm.sock", "qemu.pid", "swtpm.pid")


def require_own(journal: Journal) -> None:
    """Whether the journal's folder is that of a launch, or may become one. Raises `UsageError`."""
    state = journal.folder
    for name in FOLDERS:
        path = state / name
        if path.is_symlink() or (path.exists() and not stat.S_ISDIR(path.lstat().st_mode)):
            raise UsageError(f"{path} is no folder of a launch's own", remedy="Choose another folder with --state.")
    launched = (state / NAME).exists()
    names = sorted(path.name for path in state.iterdir()) if not launched else []
    others = [name for name in names if name not in OURS and not name.startswith(f".{KEY}.")]
    if others:
        raise UsageError(
            f"{state} holds something else, such as {others[0][:80]!r}",
            remedy="A launch has a folder of its own, because all that lies there is wiped: choose another with --state.",
        )


def targets(spec: LaunchSpec, staged: Place, driver: Driver) -> list[wipe.Target]:
    """Every file that a launch makes but its journal, its evidence and its receipts, in the order in which they go."""
    state = staged.state
    disks = [path for _, path in staging.copied_disks(spec, state)]
    boot, copies = state / staging.BOOT, sorted(set(staged.copies.values()))
    parts = map(part_of, (*disks, staged.variables, boot, *copies))
    groups: dict[str, Iterable[Path]] = {
        wipe.DISK: disks,
        wipe.TPM: map(Path, driver.remains(spec, staged)),
        wipe.NVRAM: [staged.variables],
        wipe.BOOT: [boot],
        wipe.COPIES: copies,
        wipe.TRACES: [
            staged.console,
            *sorted(state.glob(f"{staged.console.name}.[0-9]*")),  # libvirt's virtlogd begins a new one at 2 MiB
            *map(Path, driver.traces(spec, staged)),
            *(state / name for name in RUNTIME),
            *parts,
            *sorted(state.glob(".wipe-*.part")),
        ],
    }
    return [wipe.Target(what, path) for what, paths in groups.items() for path in paths]


def leases(journal: Journal) -> tuple[str, ...]:
    """Ids of all leases with which the machine of this life was attested or ready, the newest first."""
    found: dict[str, None] = {}
    for entry in reversed(journal.entries):
        if entry.state is State.PREFLIGHT:
            break
        if entry.state in {State.ATTESTED, State.READY}:
            found[_lease(journal.evidence(entry))] = None
    return tuple(lease for lease in found if lease)


def _lease(document: bytes) -> str:
    found = codec.parse_json(document, limit=len(document))
    release = found.get("release") if isinstance(found, dict) else None
    lease = release.get("lease_id") if isinstance(release, dict) else None
    return lease if isinstance(lease, str) else ""
