"""A world of its own for one process: namespaces, an account without rights, and a root with next to nothing in it.

Knows: how each is made, with or without being root. Does not know: in which order, or what is reported (`confine`).
Not covered: hosts whose security module lets an ordinary account make a user namespace but no mounts in it; `own_root` fails there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from strongroom.engines import linux

NOBODY = 65534
NAMESPACES = {
    "mount-namespace": linux.CLONE_NEWNS,
    "network-namespace": linux.CLONE_NEWNET,  # with nothing in it: even its loopback is down
    "process-namespace": linux.CLONE_NEWPID,  # holds from the next fork on
    "ipc-namespace": linux.CLONE_NEWIPC,
    "uts-namespace": linux.CLONE_NEWUTS,
}
_PLAIN = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_BASE = "/tmp"  # noqa: S108  # a folder that every system has; the new root is put together over it, in a private namespace
SCRATCH = "/tmp"  # noqa: S108  # a file system of the child's own
_SHARED = "/dev/shm"  # noqa: S108  # where the processes of a server share memory


def become_nobody(readable: Sequence[str]) -> None:
    """Leave root for an account that owns nothing; an ordinary account stays what it is. Raises `OSError`.

    `readable` are paths that must stay readable then.
    """
    if os.geteuid() != 0:
        return
    for path in readable:
        if not _open_to_all(Path(path)):
            raise OSError("still root, because nobody could not read what the child needs")
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _open_to_all(path: Path) -> bool:
    folders = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
    return folders and bool(path.stat().st_mode & stat.S_IROTH)


def own_user_namespace() -> None:
    """A new user namespace with only this account in it, under its own number. Raises `OSError`."""
    user, group = os.geteuid(), os.getegid()
    linux.prctl(linux.PR_SET_DUMPABLE, 1)  # leaving root has cleared it, and then the maps below could not be written
    linux.unshare(linux.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")


def own_root(
    readable: Sequence[str],
    scratch_bytes: int,
    *,
    processes: bool,
    devices: Sequence[str] = (),
    compiles: bool = False,
    names_threads: bool = False,
) -> OSError | None:
    """A read-only root that holds `readable` (read-only), `devices`, /proc (read-only) and a bounded, non-executable /tmp; nothing else.

    Beside devices there is a /dev/shm, bounded as /tmp is; what `compiles` may execute what lies in its /tmp; what `names_threads` may
    write to /proc whatever its account may there, as CUDA does in each thread's `comm`.
    To be called in a fresh mount namespace only. With `processes`, /proc shows this process namespace alone; where the kernel
    refuses that, the old /proc is shown and the reason returned. Raises `OSError` if there is no such root.
    """
    linux.mount("", "/", linux.MS_REC | linux.MS_PRIVATE)
    trees = [(path, Path(path).is_dir(), linux.clone_tree(path)) for path in _outermost(readable)]
    trees += [(path, False, linux.clone_tree(path, devices=True)) for path in devices]
    linux.mount("tmpfs", _BASE, _PLAIN, "size=1m,nr_inodes=4k,mode=755")
    for folder in ("/proc", SCRATCH):
        Path(_BASE + folder).mkdir()
    memory, plain = f"size={scratch_bytes},mode=700", _PLAIN & ~linux.MS_NOEXEC if compiles else _PLAIN
    linux.mount("tmpfs", _BASE + SCRATCH, plain, memory)  # first: `readable` may lie below it
    if devices:
        Path(_BASE + _SHARED).mkdir(parents=True)
        linux.mount("tmpfs", _BASE + _SHARED, _PLAIN, memory)
    for path, folder_there, tree in trees:
        target = Path(_BASE + path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if folder_there:
            target.mkdir()
        else:
            target.touch()
        linux.attach_tree(tree, str(target))
    unhidden = _own_proc(f"{_BASE}/proc", writable=names_threads) if processes else OSError("needs a process namespace")
    if unhidden is not None:
        linux.attach_tree(linux.clone_tree("/proc"), f"{_BASE}/proc")
    linux.set_mount_attributes(_BASE, linux.MOUNT_ATTR_RDONLY)
    linux.pivot_into(_BASE)
    return unhidden


def _own_proc(target: str, *, writable: bool) -> OSError | None:
    try:
        linux.mount("proc", target, _PLAIN)
    except OSError as error:
        return error
    if not writable:
        linux.set_mount_attributes(target, linux.MOUNT_ATTR_RDONLY)
    return None


def _outermost(paths: Sequence[str]) -> list[str]:
    """The paths without those that lie below another one."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(f"{other}/") for other in kept):
            kept.append(path)
    return kept
