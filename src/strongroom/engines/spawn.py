"""A fresh interpreter on the other end of a socket pair.

Knows: how to start one that inherits nothing: no environment but a few names, no descriptors but its socket, no output that anyone
reads, since native libraries print prompts. Does not know: what runs in it.
Call it before any key exists: fork copies memory, and only exec throws the copy away.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from strongroom.engines.openmp import with_folder
from strongroom.errors import EngineUnavailable

ENVIRONMENT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")
"""All that a child sees of its parent's environment."""

_GONE_SECONDS = 10.0
"""How long an orderly end may take before the process that supervises it is killed too."""

_BOOT = (
    "import sys, json, importlib; module, control, arguments = sys.argv[1:4]; sys.path[:] = sys.argv[4:]; sys.argv[1:] = []; "
    "importlib.import_module(module).main(int(control), json.loads(arguments))"
)


class ChildProcess(Protocol):
    """What `subprocess.Popen` and a process that a nursery made have in common."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> object:
        """Raises `subprocess.TimeoutExpired` or `TimeoutError`."""
        ...


@dataclass(frozen=True, slots=True)
class Child:
    """A running child: its process (which may be a mere supervisor of the confined one) and the worker's end of the pair."""

    process: Any
    socket: socket.socket

    def kill(self) -> None:
        """SIGKILL the confined process and wait until its memory is given back. Never fails, also when called twice.

        The hang-up makes the supervisor kill and reap it and tidy up; SIGTERM ends a child that has no supervisor yet.
        """
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.process.terminate()
        try:
            self.process.wait(_GONE_SECONDS)
        except (subprocess.TimeoutExpired, TimeoutError):
            self.process.kill()
            self.process.wait()
        self.socket.close()


def spawn_child(module: str, *arguments: str, libraries: str | None = None) -> Child:
    """Start `module.main(control: int, arguments: list[str])` in a fresh interpreter. Raises `EngineUnavailable`.

    `control` is the child's end of a stream socket pair. The child leads a session of its own, so that a Ctrl-C in the
    terminal reaches the worker, which decides. `libraries` is a folder for its loader (`openmp`).
    """
    ours, theirs = socket.socketpair()
    paths = [path for path in sys.path if os.path.isabs(path)]  # noqa: PTH117
    command = [sys.executable, "-I", "-B", "-c", _BOOT, module, str(theirs.fileno()), json.dumps(arguments), *paths]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            pass_fds=(theirs.fileno(),),
            cwd="/",
            env=with_folder({name: os.environ[name] for name in ENVIRONMENT if name in os.environ}, libraries),
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise EngineUnavailable(f"a child process cannot be started: {error.strerror}") from None
    finally:
        theirs.close()
    return Child(process, ours)
