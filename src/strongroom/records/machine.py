"""What a worker's machine is told: one TOML file in its image, measured with all the rest of it.

Knows: its members, and what is refused: anything unknown, a path that climbs, an address that is none. Does not know: how a
machine is set up so (`worker.init`), or how the image is made (`launch.image`). Nothing secret stands in it: whoever has the
image reads it.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.errors import MalformedRecord
from strongroom.records import codec
from strongroom.records.launch import looks_secret

PLACE = "etc/strongroom/machine.toml"
"""Where it lies in the image, below the root."""
VERSION = 1
MAX_TOML = 64 * 1024
MAX_WORDS, MAX_WORD, MAX_NAMED = 256, 4096, 64
MAX_PORT = 65535
SHARES = "/srv/"
"""Disks are mounted below it, and nowhere else."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?")
_INTERFACE = re.compile(r"[a-z][a-z0-9]{0,14}")
_DEVICE = re.compile(r"/dev/[a-z0-9]{1,32}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_TOLD = re.compile(r"[a-z][a-z-]{0,31}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_DEFAULTS: Mapping[str, Any] = {"network": None, "disks": [], "told": {}, "environment": {}}
_NETWORK: Mapping[str, Any] = {"interface": "eth0", "gateway": None, "serves": [], "reaches": [], "hosts": {}}


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


@dataclass(frozen=True, slots=True)
class Network:
    """One interface with a fixed IPv4 `address` (with its prefix, `10.0.2.15/24`), and all that may pass it.

    `serves` are TCP ports that anybody may reach; `reaches` are the only places that the machine may call (`address:port`).
    `hosts` gives names to addresses: no name is looked up anywhere else.
    """

    interface: str
    address: str
    gateway: str | None
    serves: tuple[int, ...]
    reaches: tuple[str, ...]
    hosts: Mapping[str, str]

    def __post_init__(self) -> None:
        _require(_INTERFACE.fullmatch(self.interface) and self.interface != "lo", "an interface that is no name")
        _require("/" in self.address, "an address without its prefix, as in 10.0.2.15/24")
        ipaddress.IPv4Interface(self.address)
        _require(max(map(len, (self.serves, self.reaches, self.hosts))) <= MAX_NAMED, "too many ports, places or hosts")
        _require(all(0 < port <= MAX_PORT for port in self.serves), "a port that is none")
        for place in self.reaches:
            address, _, port = place.rpartition(":")
            ipaddress.IPv4Address(address)
            _require(re.fullmatch(r"[1-9]\d{0,4}", port) and int(port) <= MAX_PORT, f"{place[:40]!r} names no port")
        if self.gateway is not None:
            ipaddress.IPv4Address(self.gateway)
        for name, address in self.hosts.items():
            _require(_NAME.fullmatch(name), "a host that is no name")
            ipaddress.IPv4Address(address)


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the host's, mounted read-only. What it holds is not measured: it must be sealed, signed or checked by who reads it."""

    device: str
    filesystem: str
    place: str

    def __post_init__(self) -> None:
        _require(_DEVICE.fullmatch(self.device), "a device that is none, as in /dev/vdb")
        _require(self.filesystem in {"vfat", "ext4"}, "a file system that the image does not know")
        _require(_below_shares(self.place), f"a disk is mounted below {SHARES}")


@dataclass(frozen=True, slots=True)
class MachineConfiguration:
    """One worker's machine. `command` is what it is there for, word by word; no shell reads it.

    `environment` holds further variables of that command. `told` names digests that nobody can know when the image is built, such as
    the image's own: `{image}` in a word of the command is replaced by the one line `sha256:…` in the file that `told` names for
    `image`. The host can write anything there; it is believed only where evidence bears it out.
    """

    version: int
    network: Network | None
    disks: tuple[Disk, ...]
    told: Mapping[str, str]
    environment: Mapping[str, str]
    command: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(self.version == VERSION, f"a version that is not {VERSION}")
        _require(0 < len(self.command) <= MAX_WORDS and self.command[0], "a machine without a command")
        for word in self.command:
            _require(len(word) <= MAX_WORD and "\0" not in word, "a word that is no argument")
            _require(not looks_secret(word), "a command with a secret in it: whoever has the image reads it")
        for name, value in self.environment.items():
            _require(_VARIABLE.fullmatch(name) and "\0" not in value, "a variable that is none")
            _require(
                not looks_secret(f"{name}={value}"), "a variable with a secret in it: whoever has the image reads it"
            )
        named = (self.told, self.disks, self.environment)
        _require(max(map(len, named)) <= MAX_NAMED, "too many disks, names or variables")
        for name, path in self.told.items():
            _require(_TOLD.fullmatch(name) and _below_shares(path), f"what is told lies in a file below {SHARES}")
            _require(any(path.startswith(f"{disk.place}/") for disk in self.disks), f"no disk holds {path[:80]!r}")
        places = [disk.place for disk in self.disks]
        _require(len(set(places)) == len(places), "two disks in one place")
        below = any(place.startswith(f"{other}/") for place in places for other in places)
        _require(not below, "a disk's place on another disk: there the host decides what the path leads to")


def _below_shares(path: str) -> bool:
    parts = path.removeprefix(SHARES).split("/") if path.startswith(SHARES) else [""]
    return len(path) <= MAX_WORD and all(_PART.fullmatch(part) for part in parts)


def from_toml(text: str) -> MachineConfiguration:
    """Parse a configuration as people write it. Raises `MalformedRecord`, also for any member that is not known."""
    if len(text) > MAX_TOML:
        raise MalformedRecord(f"a machine's configuration of {len(text)} characters exceeds the limit of {MAX_TOML}")
    try:
        members = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord(
            f"this machine's configuration is not TOML: {error}", remedy="See docs/how-to/build-the-worker-image.md."
        ) from None
    document = {**_DEFAULTS, **members}
    if isinstance(document["network"], dict):
        document["network"] = {**_NETWORK, **document["network"]}
    return codec.from_json(MachineConfiguration, document)
