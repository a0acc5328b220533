"""A fresh interpreter on the other end of a socket pair.

Knows: how to start one that inherits nothing: no environment but a few names, no descriptors but its socket, no output that anyone
reads, since native libraries print prompts. Does not know: what runs in it.
Call it before any key exists: fork copies memory, and only exec throws the copy away.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

from strongroom.errors import EngineUnavailable

ENVIRONMENT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")
"""All that a child sees of its parent's environment."""

_GONE_SECONDS = 10.0
_BOOT = (
    "import sys, json, importlib; module, control, arguments = sys.argv[1:4]; sys.path[:] = sys.argv[4:]; sys.argv[1:] = []; "
    "importlib.import_module(module).main(int(control), json.loads(arguments))"
)


@dataclass(frozen=True, slots=True)
class Child:
    """A running child: its process (which may be a mere supervisor of the confined one) and the worker's end of the pair."""

    process: subprocess.Popen[bytes]
    socket: socket.socket

    def kill(self) -> None:
        """SIGKILL, then wait until its memory is given back. Never fails, also when called twice; closes the socket."""
        self.process.kill()
        self.process.wait()
        try:
            self.socket.settimeout(_GONE_SECONDS)
            while self.socket.recv(1 << 16):  # the end comes once no process holds the other side: memory is freed before files
                pass
        except OSError:
            pass  # closed already, or the child's end is gone in another way
        finally:
            self.socket.close()


def spawn_child(module: str, *arguments: str) -> Child:
    """Start `module.main(control: int, arguments: list[str])` in a fresh interpreter. Raises `EngineUnavailable`.

    `control` is the child's end of a stream socket pair. The child leads a session of its own, so that a Ctrl-C in the
    terminal reaches the worker, which decides.
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
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise EngineUnavailable(f"a child process cannot be started: {error.strerror}") from None
    finally:
        theirs.close()
    return Child(process, ours)
