"""What leaves of the log hide: whoever did it, and what people call their keys, policies and cells.

Knows: which members of a leaf are commitments, and how one is opened. A commitment is HMAC-SHA256 (RFC 2104) under a random salt of
32 bytes, of the member's name and value; it is written like a digest. So the log can stay as it is for ever, while who holds the
salt can show the value, and without the salt nobody can even try guesses. Does not know: where salts are kept, or who erases them
(`release.erasure`). Not covered: digests of evidence, policies and artifacts, which point to nobody by themselves; members of a
decision's leaf, which a worker shows to its users.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from collections.abc import Callable, Sequence

from strongroom.errors import LogInvalid
from strongroom.records.digest import Digest, frame, is_digest
from strongroom.records.release import Leaf, Opening
from strongroom.records.revocation import About

SALT_BYTES = 32
TAG = "strongroom/leaf-commitment/v1"
SUBJECT, DETAIL = "subject", "detail"
_OPEN = frozenset({"release", "renewal", "receipts", "enrolment"})
OF_CELL = "cell:"
"""How the subject of a refusal begins that is about a cell."""
OF_TENANT = f"{About.TENANT.value}:"
PREFIXES = ("", OF_CELL, *(f"{about.value}:" for about in About))
"""What may stand before a name in a subject: nothing, or the kind of thing that was refused or revoked."""
_NAMED = frozenset({"", OF_CELL, OF_TENANT, f"{About.KEY.value}:", f"{About.POLICY.value}:"})


def hidden_members(leaf: Leaf) -> tuple[str, ...]:
    """The members of `leaf` that are commitments; the same of a leaf that is still to be hidden.

    An event that is not known here hides everything.
    """
    if leaf.event in _OPEN:  # nearly all leaves
        return ()
    everything = (SUBJECT, *_numbered(leaf), DETAIL)
    known = {
        "refusal": (SUBJECT,) if leaf.subject.startswith(OF_CELL) or is_digest(leaf.subject) else (),
        "revocation": (SUBJECT, *_numbered(leaf)) if ":" in leaf.subject else _numbered(leaf)[1:],
        "destruction": (SUBJECT, *_numbered(leaf)[:1]),
        "policy": (SUBJECT, *_numbered(leaf)[1:]),
        "key": (SUBJECT, *_numbered(leaf)),
        "cell": everything if len(leaf.digests) == 1 else (SUBJECT,),
        "erasure": _numbered(leaf),
    }
    return known.get(leaf.event, everything)


def names_in(subject: str) -> tuple[str, ...]:
    """The id in an opened subject, or `TENANT/`; none where it is no tenant's own (a person, a machine, the house)."""
    kind, colon, name = subject.rpartition(":")
    if kind + colon not in _NAMED or not name:
        return ()
    return (f"{name}/",) if kind + colon == OF_TENANT else (name,)


def hide(leaf: Leaf, salt: Callable[[], bytes]) -> tuple[Leaf, tuple[Opening, ...]]:
    """`leaf` as it goes into the log, and what opens it; `salt` makes 32 random bytes."""
    openings = tuple(Opening(member, salt(), _value(leaf, member)) for member in hidden_members(leaf))
    for opening in openings:
        leaf = _with(leaf, opening.member, commitment(opening))
    return leaf, openings


def reveal(leaf: Leaf, openings: Sequence[Opening]) -> tuple[Leaf, int]:
    """`leaf` with the members that `openings` open, and how many stay hidden. Raises `LogInvalid` for one that does not fit."""
    closed = set(hidden_members(leaf))
    for opening in openings:
        if opening.member not in closed or commitment(opening) != _value(leaf, opening.member):
            raise LogInvalid("this does not open what the leaf hides", detail=opening.member[:64])
        closed.remove(opening.member)
    for opening in openings:  # only now: what is opened must not change what else is hidden
        leaf = _with(leaf, opening.member, opening.value)
    return leaf, len(closed)


def commitment(opening: Opening) -> Digest:
    """What stands in the leaf. Raises `LogInvalid` for a salt of another length."""
    if len(opening.salt) != SALT_BYTES or not opening.member.isascii():
        raise LogInvalid(f"a member of a leaf is hidden under a salt of {SALT_BYTES} bytes")
    framed = frame(TAG, frame(opening.member, opening.value.encode()))
    return Digest("sha256:" + hmac.digest(opening.salt, framed, hashlib.sha256).hex())


def _numbered(leaf: Leaf) -> tuple[str, ...]:
    return tuple(f"digests[{index}]" for index in range(len(leaf.digests)))


def _index(member: str) -> int:
    return int(member.removeprefix("digests[").removesuffix("]"))


def _value(leaf: Leaf, member: str) -> str:
    if member in {SUBJECT, DETAIL}:
        return leaf.subject if member == SUBJECT else leaf.detail
    return leaf.digests[_index(member)]


def _with(leaf: Leaf, member: str, value: str) -> Leaf:
    if member == SUBJECT:
        return dataclasses.replace(leaf, subject=value)
    if member == DETAIL:
        return dataclasses.replace(leaf, detail=value)
    if not is_digest(value):
        raise LogInvalid("a digest is hidden here, and this is none", detail=member)
    digests = list(leaf.digests)
    digests[_index(member)] = Digest(value)
    return dataclasses.replace(leaf, digests=tuple(digests))
