"""What comes out of a database is checked, like anything else that was written elsewhere: a row that makes no sense is corrupt.

Knows: how a row or a record that does not parse becomes the store's own error. Does not know: any table. Not covered: a
value that was changed into another that makes sense; what the log or a signature holds is noticed there, and a file
system with checksums notices the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from strongroom.errors import StoreUnavailable, Unreadable
from strongroom.records import codec

T = TypeVar("T")


def from_row(make: Callable[[Any], T]) -> Callable[[Any], T]:
    """`make`, which raises `StoreUnavailable` for a row whose values are none."""

    @functools.wraps(make)
    def made(row: Any) -> T:
        try:
            return make(row)
        except (ValueError, TypeError):
            raise _corrupt("row") from None

    return made


def read_back(kind: type[T], body: bytes) -> T:
    """A record that the broker itself put into its database. Raises `StoreUnavailable`."""
    try:
        return codec.decode(kind, body)
    except Unreadable:
        raise _corrupt("record") from None


def _corrupt(what: str) -> StoreUnavailable:
    return StoreUnavailable("the broker's database is corrupt", detail=what)
