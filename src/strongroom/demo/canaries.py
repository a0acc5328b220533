"""Canaries: unique strings planted in what is secret, and the hunt for them in all that the host can see.

Knows: the forms in which a string may hide (plain, hexadecimal, base64 at each alignment, UTF-16). Does not know: where it looks.
Not covered: compression, and encodings that nobody here uses.
"""

from __future__ import annotations

import base64
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
            found.append(self.secret.decode("ascii").encode("utf-16-le"))
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Sighting:
    """A canary that was seen."""

    canary: str
    file: str


def hunt(canaries: Iterable[Canary], places: Iterable[Path]) -> tuple[list[Sighting], int]:
    """Every sighting in the files under `places`, and how many bytes were searched."""
    needles = [(canary.place, form) for canary in canaries for form in canary.forms()]
    longest = max((len(form) for _, form in needles), default=1)
    sightings, searched = [], 0
    for file in _files(places):
        tail = b""
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                searched += len(block)
                text = tail + block
                sightings += [Sighting(place, file.name) for place, form in needles if form in text]
                tail = text[-longest:]
        sightings += [Sighting(place, file.name) for place, form in needles if form in file.name.encode()]
    return sightings, searched


def _files(places: Iterable[Path]) -> Iterable[Path]:
    for place in places:
        if place.is_file():
            yield place
        elif place.is_dir():
            yield from sorted(path for path in place.rglob("*") if path.is_file() and not path.is_fifo())
