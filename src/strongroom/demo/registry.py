"""A real registry on this machine: `docker-registry` (distribution 2), as Debian and others package it.

Knows: its configuration, and the line in which it says its address. Does not know: what lies in it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from strongroom.demo.processes import Process

PROGRAM = "docker-registry"
_LISTENING = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")


def is_installed() -> bool:
    """Whether the program is on PATH."""
    return shutil.which(PROGRAM) is not None


def command(folder: Path, *, htpasswd: Path | None = None) -> list[str]:
    """The command line of a registry that keeps what it has in `folder`/storage; its configuration is written there."""
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0"},
    }
    if htpasswd is not None:
        config["auth"] = {"htpasswd": {"realm": "strongroom", "path": str(htpasswd)}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(json.dumps(config))  # which is YAML as well
    # What others set for their own logins, this program would take for its configuration.
    return ["env", "-u", "REGISTRY_AUTH_FILE", PROGRAM, "serve", str(folder / "config.yml")]


def address(process: Process) -> str:
    """`HOST:PORT`, once the registry listens. Raises `Unavailable` if it ends before."""
    while True:
        found = _LISTENING.fullmatch(str(process.line(level="info").get("msg")))
        if found is not None:
            return found[1]
