"""Where a repository is: `HOST[:PORT]/NAME`, over TLS or, where that is allowed, without; and its mirrors.

Names and tags are those of the distribution spec 1.1 (Pulling manifests). Plain HTTP is for this machine alone, or for
hosts that the environment names. A mirror has content that is verified anyway, so it is believed in nothing.

Knows: texts. Does not know: HTTP. Not covered: containers' registries.conf, names of hosts outside ASCII.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.errors import UsageError

INSECURE = "STRONGROOM_INSECURE_REGISTRIES"
MIRRORS = "STRONGROOM_REGISTRY_MIRRORS"
DEFAULT_TAG = "latest"
DOCKER_HUB = "docker.io"
_HUB_NAMES = {DOCKER_HUB, "index.docker.io", "registry-1.docker.io"}
_HUB_API = "registry-1.docker.io"

_HOST = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]+\])"
)
_PLACE = rf"{_HOST}(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"{_PART}(?:/{_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_REFERENCE = re.compile(
    rf"oci://(?P<place>{_PLACE})/(?P<name>{_NAME})(?::(?P<tag>{_TAG})|@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
_MIRROR = re.compile(rf"(?P<of>{_PLACE})=(?P<place>{_PLACE})(?:/(?P<prefix>{_NAME}))?")
_MAX_NAME, _MAX_TEXT, _MAX_PORT = 255, 1024, 65535

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """One repository at one registry. `place` is the host, with its port where one is named."""

    place: str
    name: str
    plain: bool = False

    @property
    def origin(self) -> str:
        """Scheme, host and port of the registry's API."""
        api = _HUB_API if self.place in _HUB_NAMES else self.place
        return f"{'http' if self.plain else 'https'}://{api}"

    @property
    def base(self) -> str:
        return f"{self.origin}/v2/{self.name}"

    def __str__(self) -> str:
        return f"{self.place}/{self.name}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The repository itself, and the mirrors that are asked before it for content whose digest is known."""

    own: Address
    mirrors: tuple[Address, ...] = ()


def parse_reference(text: str, environ: Mapping[str, str]) -> tuple[Addresses, str]:
    """What `oci://HOST[:PORT]/NAME[:TAG|@sha256:HEX]` names, and the tag or digest there. Raises `UsageError`."""
    found = _REFERENCE.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if found is None or len(found["name"]) > _MAX_NAME or not is_place(found["place"]):
        raise UsageError(
            f"{text[:200]!r} is not a reference to a registry",
            remedy="Write oci://HOST[:PORT]/NAME, with :TAG or @sha256:HEX after it; names are in lower case.",
        )
    insecure = insecure_places(environ)
    place, name = found["place"].lower(), found["name"]
    if place in _HUB_NAMES:
        place, name = DOCKER_HUB, name if "/" in name else f"library/{name}"
    mirrors = tuple(
        _address(mirror, f"{prefix}/{name}" if prefix else name, insecure)
        for of, mirror, prefix in mirrors_of(environ)
        if of == place
    )
    return Addresses(_address(place, name, insecure), mirrors), found["digest"] or found["tag"] or DEFAULT_TAG


def insecure_places(environ: Mapping[str, str]) -> frozenset[str]:
    """The hosts that may be spoken to without TLS because somebody said so. Raises `UsageError`."""
    named = [item.strip().lower() for item in environ.get(INSECURE, "").split(",") if item.strip()]
    if any(re.fullmatch(_PLACE, item) is None for item in named):
        raise UsageError(f"{INSECURE} does not list hosts", remedy="Write HOST or HOST:PORT, with commas between.")
    return frozenset(named)


def mirrors_of(environ: Mapping[str, str]) -> tuple[tuple[str, str, str | None], ...]:
    """The registry, its mirror and the path there, of each entry in the environment. Raises `UsageError`."""
    listed = []
    for item in filter(None, (part.strip() for part in environ.get(MIRRORS, "").split(","))):
        found = _MIRROR.fullmatch(item)
        if found is None or not is_place(found["of"]) or not is_place(found["place"]):
            raise UsageError(
                f"{MIRRORS} does not list mirrors", remedy="Write HOST=MIRROR or HOST=MIRROR/PATH, with commas between."
            )
        of = found["of"].lower()
        listed.append((DOCKER_HUB if of in _HUB_NAMES else of, found["place"].lower(), found["prefix"]))
    return tuple(listed)


def is_place(text: str) -> bool:
    """Whether this is a host with a possible port."""
    _, port = split_place(text)
    return re.fullmatch(_PLACE, text) is not None and (port is None or 0 < port <= _MAX_PORT)


def split_place(place: str) -> tuple[str, int | None]:
    """Host and port; a host in brackets without them."""
    host, found, port = place.rpartition(":")
    if not found or not port.isdigit():
        host, port = place, ""
    return host.strip("[]"), int(port) if port else None


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine: `localhost`, 127.0.0.0/8, ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _address(place: str, name: str, insecure: frozenset[str]) -> Address:
    named = place in insecure or split_place(place)[0] in insecure
    if named:
        log.warning("%s is spoken to without TLS, because %s names it: what is sent can be read", place, INSECURE)
    return Address(place, name, plain=named or is_loopback(split_place(place)[0]))
