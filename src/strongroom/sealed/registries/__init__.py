"""Registries: where sealed artifacts lie. The port, and a file for each kind of place, chosen by a reference's scheme."""

from __future__ import annotations

import re
from pathlib import Path

from strongroom.errors import UsageError
from strongroom.sealed.registries.directory import DirectoryRegistry
from strongroom.sealed.registries.port import Blob, BlobWriter, Descriptor, Registry

__all__ = ["Blob", "BlobWriter", "Descriptor", "DirectoryRegistry", "Registry", "from_reference"]

DEFAULT_TAG = "latest"

_DIRECTORY = re.compile(
    r"dir:(?P<path>.+?)(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
)


def from_reference(text: str) -> tuple[Registry, str]:
    """The registry that `text` names, and the tag or digest in it: `dir:PATH`, `dir:PATH:TAG`, `dir:PATH@sha256:HEX`.

    Raises `UsageError` for anything else.
    """
    found = _DIRECTORY.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} is not a reference to a sealed artifact",
            remedy="Supported now is a folder: write dir:PATH, dir:PATH:TAG or dir:PATH@sha256:HEX.",
        )
    return DirectoryRegistry(Path(found["path"])), found["digest"] or found["tag"] or DEFAULT_TAG
