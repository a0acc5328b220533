"""Credentials for a registry, where Docker, Podman and Skopeo keep them.

Asked in this order: the file that `REGISTRY_AUTH_FILE` names, and then no other; `containers/auth.json` below
`XDG_RUNTIME_DIR`; `config.json` below `DOCKER_CONFIG` or `~/.docker`. In a file: the helper for this registry
(`credHelpers`), the general helper (`credsStore`), then `auths`, the entry with the longest path first
(containers-auth.json(5), docker-credential-helpers).

Knows: these files and the helpers' protocol. Does not know: HTTP. Not covered: writing them, client certificates.
"""

from __future__ import annotations

import base64
import binascii
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.errors import FileUnreadable, MalformedRecord, Unavailable
from strongroom.records import codec
from strongroom.sealed.registries.oci.address import DOCKER_HUB

MAX_FILE_BYTES = 1024 * 1024
MAX_SECRET_BYTES = 64 * 1024
HELPER_SECONDS = 30
HUB_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_IDENTITY_TOKEN = "<token>"  # noqa: S105 (a user's name that says what the secret is)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, or an identity token, which is exchanged for others."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


Helper = Callable[[str, str], bytes | None]
"""Given the helper's name and the registry: the JSON it answers, or None if it has nothing."""


def find_credentials(place: str, name: str, environ: Mapping[str, str], *, helper: Helper) -> Credentials | None:
    """What somebody logged in to `place` with, or None. Raises `FileUnreadable`, `MalformedRecord`, `Unavailable`."""
    for path, needed in _places(environ):
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            if needed:
                raise FileUnreadable(f"there is no {path}, which REGISTRY_AUTH_FILE names") from None
            continue
        except OSError as error:
            raise FileUnreadable(f"{path}: {error.strerror}") from None
        found = from_config(data, place, name, helper=helper)
        if found is not None:
            return found
    return None


def from_config(data: bytes, place: str, name: str, *, helper: Helper) -> Credentials | None:
    """What one file has for the repository `name` at `place`, or None. Raises `MalformedRecord`, `Unavailable`."""
    config = _parse(data)
    if not isinstance(config, dict):
        raise _malformed()
    named = _table(config, "credHelpers").get(place) or config.get("credsStore")
    if named:
        found = _from_helper(named, place, helper)
        if found is not None:
            return found
    entries = {_key(key): value for key, value in reversed(_table(config, "auths").items())}
    parts = [place, *name.split("/")]
    for length in range(len(parts), 0, -1):
        entry = entries.get("/".join(parts[:length]))
        if entry is not None:
            return _from_entry(entry)
    return None


def run_helper(program: str, place: str) -> bytes | None:
    """Ask `docker-credential-PROGRAM`; the secret comes by its standard output and goes nowhere else."""
    path = shutil.which(f"docker-credential-{program}")
    if path is None:
        raise Unavailable(
            f"the credential helper docker-credential-{program} is not installed",
            remedy="Install it, or log in with another one.",
        )
    try:
        done = subprocess.run(
            [path, "get"], input=place.encode(), capture_output=True, check=False, timeout=HELPER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        raise Unavailable(f"docker-credential-{program} does not answer") from None
    if done.returncode == 0:
        return done.stdout
    if b"credentials not found" in done.stdout + done.stderr:
        return None
    raise Unavailable(f"docker-credential-{program} ended with {done.returncode}", remedy="Log in again.")


def _places(environ: Mapping[str, str]) -> list[tuple[Path, bool]]:
    if named := environ.get("REGISTRY_AUTH_FILE"):
        return [(Path(named), True)]
    found = []
    if run := environ.get("XDG_RUNTIME_DIR"):
        found.append((Path(run) / "containers" / "auth.json", False))
    if docker := environ.get("DOCKER_CONFIG"):
        found.append((Path(docker) / "config.json", False))
    elif home := environ.get("HOME"):
        found.append((Path(home) / ".docker" / "config.json", False))
    return found


def _from_helper(named: Any, place: str, helper: Helper) -> Credentials | None:
    if not isinstance(named, str) or _HELPER.fullmatch(named) is None:
        raise _malformed()
    answer = helper(named, HUB_KEY if place == DOCKER_HUB else place)
    if answer is None:
        return None
    if len(answer) > MAX_SECRET_BYTES:
        raise _malformed()
    found = _parse(answer)
    user, secret = (found.get("Username"), found.get("Secret")) if isinstance(found, dict) else (None, None)
    if not isinstance(user, str) or not isinstance(secret, str) or not secret:
        raise _malformed()
    return Credentials(identity_token=secret) if user == _IDENTITY_TOKEN else Credentials(user, secret)


def _from_entry(entry: Any) -> Credentials | None:
    if not isinstance(entry, dict):
        raise _malformed()
    token, auth = entry.get("identitytoken", ""), entry.get("auth", "")
    if not isinstance(token, str) or not isinstance(auth, str) or len(auth) + len(token) > MAX_SECRET_BYTES:
        raise _malformed()
    if not auth:
        return Credentials(identity_token=token) if token else None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise _malformed() from None
    if not colon or not user:
        raise _malformed()
    return Credentials(user, password.rstrip("\0"), token)


def _parse(data: bytes) -> Any:
    try:
        return codec.parse_json(data, limit=MAX_FILE_BYTES)
    except MalformedRecord:
        raise _malformed() from None


def _key(text: str) -> str:
    """The registry and path that a key of `auths` is about; Docker writes some as addresses of an older protocol."""
    scheme, found, rest = text.partition("://")
    if found and scheme in {"http", "https"}:
        text = rest.partition("/")[0]
    text = text.removesuffix("/").removesuffix("/v1").removesuffix("/v2").lower()
    return DOCKER_HUB if text in {"index.docker.io", "registry-1.docker.io"} else text


def _table(config: dict[str, Any], name: str) -> dict[str, Any]:
    table = config.get(name)
    if table is not None and not isinstance(table, dict):
        raise _malformed()
    return table or {}


def _malformed() -> MalformedRecord:
    return MalformedRecord(
        "a file with credentials for registries does not have the form that Docker gives it",
        remedy="Log in again (docker login, podman login or skopeo login), which writes it anew.",
    )
