"""Leases: how long released keys hold. No grace.

Knows: when a lease is over, how it is begun and renewed. Does not know: evidence, or where leases are kept.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

from strongroom.errors import LeaseEnded, ReleaseRefused
from strongroom.receipts.chain import chain_head
from strongroom.records.digest import Digest
from strongroom.records.evidence import Evidence
from strongroom.records.release import Lease, LeaseState
from strongroom.records.worker import Keyset

ID_BYTES = 16


def new_id() -> str:
    """A fresh name for a lease, in hexadecimal: whatever it is, a command line does not take it for an option."""
    return secrets.token_hex(ID_BYTES)


def term(keyset: Keyset, policy_seconds: list[int], *, now: int) -> int:
    """Seconds that a lease may last: the shortest that its policies give, and not beyond the keyset.

    Raises `ReleaseRefused`.
    """
    seconds = min(*policy_seconds, keyset.not_after - now)
    if seconds < 1:
        raise ReleaseRefused("this keyset has ended", detail="keyset.not_after")
    return seconds


def begin(
    lease_id: str, evidence: Evidence, *, policy_id: str, key_ids: tuple[str, ...], token: str, now: int, seconds: int
) -> Lease:
    """The lease that a release begins."""
    return Lease(
        id=lease_id,
        keyset=evidence.keyset.digest,
        statement=evidence.statement.digest,
        policy_id=policy_id,
        key_ids=key_ids,
        granted=now,
        expires=now + seconds,
        state=LeaseState.ACTIVE,
        renewals=0,
        chain=chain_head(None, token),
    )


def renew(lease: Lease, *, token: str, now: int, seconds: int, key_ids: Sequence[str] = ()) -> Lease:
    """The lease after one more renewal; `key_ids` are keys that it comes to hold besides."""
    return dataclasses.replace(
        lease,
        key_ids=tuple(dict.fromkeys((*lease.key_ids, *key_ids))),
        expires=now + seconds,
        renewals=lease.renewals + 1,
        chain=chain_head(lease.chain, token),
    )


def at(lease: Lease, now: int) -> Lease:
    """The lease with the state that it has at `now`."""
    ended = lease.state is LeaseState.ACTIVE and now >= lease.expires
    return dataclasses.replace(lease, state=LeaseState.EXPIRED) if ended else lease


def check_active(lease: Lease | None, *, now: int) -> Lease:
    """The lease itself if it is active at `now`. Raises `LeaseEnded`."""
    if lease is None:
        raise LeaseEnded("there is no such lease", detail="lease.unknown")
    state = at(lease, now).state
    if state is not LeaseState.ACTIVE:
        raise LeaseEnded(f"this lease is {state.value}", detail=f"lease.{state.value}")
    return lease


def check_same_worker(lease: Lease, keyset: Digest, statement: Digest) -> None:
    """Return if a renewal comes from the worker that the lease was given to. Raises `ReleaseRefused`."""
    if lease.keyset != keyset:
        raise ReleaseRefused("this lease was given to another keyset", detail="lease.keyset")
    if lease.statement != statement:
        raise ReleaseRefused("this lease was given for another statement", detail="lease.statement")
