"""Registries: where sealed artifacts lie. The port, and a file or folder for each kind of place, by a reference's scheme."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from strongroom.errors import UsageError
from strongroom.records.artifact import is_plain_path
from strongroom.sealed.registries.directory import DirectoryRegistry
from strongroom.sealed.registries.port import Blob, BlobWriter, Descriptor, Registry

__all__ = ["Blob", "BlobWriter", "Descriptor", "DirectoryRegistry", "Registry", "from_reference"]

DEFAULT_TAG = "latest"

_TAIL = r"(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
_DIRECTORY = re.compile(r"dir:(?P<path>.+?)" + _TAIL)
_S3 = re.compile(r"s3://(?P<bucket>[A-Za-z0-9._-]{3,255})/(?P<prefix>.+?)" + _TAIL)


def from_reference(text: str) -> tuple[Registry, str]:
    """The registry that `text` names, and the tag or digest in it: `dir:PATH`, `oci://HOST/NAME`; `:TAG`, `@sha256:HEX`.

    So with `s3://BUCKET/PREFIX`. Raises `UsageError` for anything else, and where the scheme's extra is missing.
    """
    parse = SCHEMES.get(text.partition(":")[0])
    found = None if parse is None else parse(text)
    if found is None:
        raise UsageError(
            f"{text!r} is not a reference to a sealed artifact",
            remedy="Write dir:PATH, dir:PATH:TAG or dir:PATH@sha256:HEX; likewise with oci://HOST/NAME and s3://BUCKET/PREFIX.",
        )
    return found


def _directory(text: str) -> tuple[Registry, str] | None:
    found = _DIRECTORY.fullmatch(text)
    return None if found is None else (DirectoryRegistry(Path(found["path"])), _name(found))


def _s3(text: str) -> tuple[Registry, str] | None:
    found = _S3.fullmatch(text)
    if found is None or not is_plain_path(found["prefix"]):
        return None
    try:
        from strongroom.sealed.registries.s3 import Bucket, S3Registry
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is not installed", remedy="pip install 'strongroom[s3]'") from None
    return S3Registry(Bucket.connect(found["bucket"], found["prefix"])), _name(found)


def _oci(text: str) -> tuple[Registry, str]:
    from strongroom.sealed.registries.oci import OciRegistry

    return OciRegistry.from_reference(text)


def _name(found: re.Match[str]) -> str:
    return found["digest"] or found["tag"] or DEFAULT_TAG


SCHEMES: Mapping[str, Callable[[str], tuple[Registry, str] | None]] = {"dir": _directory, "oci": _oci, "s3": _s3}
"""What reads a reference of each scheme; None for one that is not written as that scheme wants."""
