"""Canaries: unique strings planted in what is secret, and the hunt for them in all that the host can see.

Knows: the forms in which a string may hide (plain, hexadecimal, base64 at each alignment, UTF-16, in JSON). Does not know: where it looks.
Not covered: compression, and encodings that nobody here uses.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BLOCK = 8 << 20


@dataclass(frozen=True, slots=True)
class Canary:
    """A secret that must never be seen outside: what it was planted in, and its bytes."""

    place: str
    secret: bytes

    def forms(self) -> list[bytes]:
        """The bytes in each form that is searched for."""
        found = [self.secret, self.secret.hex().encode()]
        for shift in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                encoded = encode(b"\0" * shift + self.secret)
                found.append(encoded[4 if shift else 0 : -4])  # the groups that do not depend on the neighbours
        if self.secret.isascii():
            text = self.secret.decode("ascii")
            found += [text.encode("utf-16-le"), text.encode("utf-16-be"), json.dumps(text)[1:-1].encode()]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Sighting:
    """A canary that was seen."""

    canary: str
    file: str


def hunt(canaries: Iterable[Canary], places: Iterable[Path]) -> tuple[list[Sighting], int]:
    """Every sighting under `places`, in files, their names and where links lead, and how many bytes were searched."""
    needles = [(canary.place, form) for canary in canaries for form in canary.forms()]
    longest = max((len(form) for _, form in needles), default=1)
    sightings, searched = [], 0
    for place in places:
        for path in _below(place):
            name = str(path.relative_to(place.parent)) + (str(path.readlink()) if path.is_symlink() else "")
            sightings += [Sighting(canary, path.name) for canary, form in needles if form in os.fsencode(name)]
            if not path.is_file() or path.is_symlink():
                continue
            tail = b""
            with path.open("rb") as stream:
                while block := stream.read(BLOCK):
                    searched += len(block)
                    text = tail + block
                    sightings += [Sighting(canary, path.name) for canary, form in needles if form in text]
                    tail = text[-longest:]
    return sightings, searched


def _below(place: Path) -> Iterable[Path]:
    """`place` and all that lies in it, folders and links as well."""
    yield place
    if place.is_dir():
        yield from sorted(place.rglob("*"))
