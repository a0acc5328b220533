"""Cells: counters and budgets bound to a policy, which workers move under their leases (release protocol, cells).

Knows: the order of a change. Limits, parse, the lease and its signature, the output key; then, in one transaction: the
lease is looked at again, the nonce is used up, the cell is compared and changed, leaf and answer are written. Does not
know: HTTP (`services.cells`), SQL (`stores`), evidence: the lease stands for it, and only a lease whose first key is
under the cell's policy moves the cell.

The same request within 60 s gets the answer that was kept; later they are refused, as long as the lease lives; afterwards
nothing moves under it. So nothing is debited twice. A counter never goes back and a budget never below zero. A lease
concerns the keys that its spends were granted: their revocation ends it. Not covered: closing a cell, raising a limit.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TypeVar

from strongroom.crypto.signatures import ed25519_public, open_envelope, sign_envelope
from strongroom.errors import MalformedRecord, NonceReused, Refused, ReleaseRefused, StoreUnavailable, UsageError
from strongroom.records import codec
from strongroom.records.cell import Advance, Cell, CellAnswer, CellKind, CellView, Look, Output, Spend
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.release import Grant, GrantContext, Lease, Use
from strongroom.release import leases, leaves, orders, uses
from strongroom.release.administrators import Administrators
from strongroom.release.clock import decision_time
from strongroom.release.decisions import Facts, check_edition, facts_of, still_holds
from strongroom.release.demands import Demands
from strongroom.release.grants import seal_grant, sign_grant
from strongroom.release.keys import KeyRing
from strongroom.release.log import Log
from strongroom.release.problem import from_problem, to_problem
from strongroom.release.refusals import RefusalBudget
from strongroom.release.revocations import check_not_revoked
from strongroom.release.state import BrokerKeys
from strongroom.release.stores.checked import read_back
from strongroom.release.stores.port import Reader, Store, StoredAnswer, Transaction
from strongroom.release.subjects import notes_at, of_names
from strongroom.release.wire import (
    CELL_NONCE_BYTES,
    CELL_PAYLOAD_TYPE,
    CELL_VIEW_PAYLOAD_TYPE,
    MAX_SMALL_BYTES,
    CellCreation,
    check_name,
    check_same_tenant,
)

RETRY_SECONDS = 60
FORGET_SECONDS = 30

_PURPOSE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

Request = Advance | Spend
_Q = TypeVar("_Q", Advance, Spend, Look)


class Cells:
    """The cells of one broker. Every method may be called from many threads, and may raise `StoreUnavailable`.

    `administrators` say whose signature makes a policy count; `now` is in Unix seconds. Workers'
    requests are the bytes of a signed envelope.
    """

    def __init__(
        self,
        store: Store,
        log: Log,
        keys: BrokerKeys,
        ring: KeyRing,
        *,
        administrators: Administrators,
        refusals: RefusalBudget,
        demands: Demands,
    ) -> None:
        self._store, self._log, self._ring, self._administrators = store, log, ring, administrators
        self._signing, self._fingerprint = keys.signing, keys.identity.fingerprint
        self._refusals, self._demands = refusals, demands
        self._forgotten = 0

    # Owners

    def create(self, wanted: CellCreation, *, who: Digest, now: int) -> Cell:
        """A new cell under a policy, which may be put later. Raises `UsageError`."""
        budget = wanted.kind is CellKind.BUDGET
        if budget != (wanted.limit is not None) or (wanted.limit is not None and wanted.limit < 1):
            raise UsageError("a budget has a limit of 1 or more, a counter none", remedy="Give a budget --limit N.")
        if wanted.output_key is not None and not budget:
            raise UsageError("a counter grants no key", remedy="Name an output key for a budget only.")
        named = (wanted.cell_id, wanted.policy_id, *(() if wanted.output_key is None else (wanted.output_key,)))
        check_same_tenant(*map(check_name, named))
        cell = Cell(
            id=wanted.cell_id,
            kind=wanted.kind,
            policy_id=wanted.policy_id,
            limit=wanted.limit,
            output_key=wanted.output_key,
            value=wanted.limit or 0,
            digest=None,
            changes=0,
            created=now,
        )

        def put(transaction: Transaction) -> None:
            if not transaction.add_cell(cell):
                raise UsageError(
                    "there is already a cell of this name", remedy="Choose another name; no cell is reset."
                )
            self._log.append(transaction, leaves.cell_created(cell, time=now, who=who))

        self._store.write(put)
        return cell

    def all(self) -> tuple[Cell, ...]:
        """All cells as they stand."""
        return self._store.read(lambda reader: reader.cells())

    def show(self, cell_id: str) -> Cell:
        """One cell as it stands. Raises `UsageError`."""
        cell = self._store.read(lambda reader: reader.cell(cell_id))
        if cell is None:
            raise UsageError("there is no such cell", remedy="See `strongroom cells list`.")
        return cell

    # Workers

    def advance(self, cell_id: str, body: bytes, *, now: int) -> CellAnswer:
        """Answer a signed `Advance`: compare and swap, and the number only grows.

        Raises `ReleaseRefused` (also `LeaseEnded`, `NonceReused`), `SignatureInvalid` or `MalformedRecord`.
        """
        now = decision_time(now, self._log.time)
        request, lease = self._read(Advance, cell_id, body, now=now)
        if not 0 <= request.expected < request.next:
            raise MalformedRecord("a counter goes from a number to a greater one")
        return self._change(request, lease, now=now)

    def spend(self, cell_id: str, body: bytes, *, now: int) -> CellAnswer:
        """Answer a signed `Spend`: debit, and the grant of the output key if it names one, or neither.

        Raises as `advance` does.
        """
        now = decision_time(now, self._log.time)
        request, lease = self._read(Spend, cell_id, body, now=now)
        if request.amount < 1 or _PURPOSE.fullmatch(request.purpose) is None:
            raise MalformedRecord("a spend is of 1 or more, for a purpose of 1 to 64 of a-z, 0-9, '.', '_' and '-'")
        return self._change(request, lease, now=now)

    def look(self, cell_id: str, body: bytes, *, now: int) -> Envelope:
        """Answer a signed `Look` with a signed `CellView`. Raises as `advance` does."""
        request, lease = self._read(Look, cell_id, body, now=decision_time(now, self._log.time))
        cell = self._store.read(lambda reader: _cell_of(reader, cell_id, lease))
        return sign_envelope(CELL_VIEW_PAYLOAD_TYPE, codec.encode(CellView(request.nonce, cell)), self._signing)

    def _read(self, kind: type[_Q], cell_id: str, body: bytes, *, now: int) -> tuple[_Q, Lease]:
        """The request, signed under a lease that is active."""
        if len(body) > MAX_SMALL_BYTES:
            raise MalformedRecord(f"a request of {len(body)} bytes exceeds the limit of {MAX_SMALL_BYTES}")
        envelope = Envelope.from_bytes(body)
        request = codec.decode(kind, envelope.payload)
        if request.cell_id != cell_id:
            raise ReleaseRefused("this request is for another cell", detail="cell.id")
        if len(request.nonce) != CELL_NONCE_BYTES:
            raise MalformedRecord(f"a nonce has {CELL_NONCE_BYTES} bytes")
        stored = self._store.read(lambda reader: reader.lease(request.lease_id))
        lease = leases.check_active(stored.lease if stored else None, now=now)
        open_envelope(envelope, CELL_PAYLOAD_TYPE, [ed25519_public(stored.receipt_key if stored else b"")])
        return request, lease

    def _change(self, request: Request, lease: Lease, *, now: int) -> CellAnswer:
        name = request.request_digest  # of what was signed: a signature put beside the first makes no other request
        kept, asked = self._store.read(
            lambda reader: (reader.answer(name, now), reader.cell_asked(lease.id, request.nonce))
        )
        if kept is not None:
            return _give(kept)
        if asked:  # spares the work on an output key; what decides is the compare-and-swap later
            raise _answered()
        granted: tuple[Facts, Grant] | Refused | None = None
        try:
            if isinstance(request, Spend) and request.output is not None:
                granted = self._output(request, request.output, lease, now=now)
        except Refused as error:
            granted = error
        return _give(
            self._store.write(lambda transaction: self._conclude(transaction, name, request, granted, now=now))
        )

    def _output(self, request: Spend, output: Output, lease: Lease, *, now: int) -> tuple[Facts, Grant]:
        """The grant of a spend's output key, which is given only if the debit is. Raises `ReleaseRefused`."""
        wrapped = output.wrapped

        def look(reader: Reader) -> Facts:
            cell = _cell_of(reader, request.cell_id, lease)
            key = reader.key(wrapped.key_id, wrapped.key_version)
            if cell.output_key != wrapped.key_id or (key is not None and key.policy_id != cell.policy_id):
                raise ReleaseRefused("this cell grants no keys of this name", detail="cell.output")
            return facts_of(reader, [key])

        if output.keyset.digest != lease.keyset or output.keyset.not_after <= now:
            raise ReleaseRefused("this lease was given to another keyset, or it has ended", detail="lease.keyset")
        if wrapped.broker != self._fingerprint:
            raise ReleaseRefused("this key was wrapped by another broker", detail="key.broker")
        facts = self._store.read(look)
        self._demands.check(facts.policies)
        (key,), (stored,) = facts.keys, facts.policies
        policy, digest = self._administrators.open_policy(stored.envelope)
        if (policy.id, digest) != (stored.id, stored.digest):
            raise ReleaseRefused("a stored policy is not the one that its owner signed", detail="policy.stored")
        check_edition(wrapped.of, policy)
        context = GrantContext(
            nonce=request.nonce,
            keyset=lease.keyset,
            statement=lease.statement,
            evidence=request.request_digest,
            policy=digest,
            key_id=key.id,
            use=Use.SEAL,
            artifact=digest_bytes(wrapped.artifact_id),
            artifact_id=wrapped.artifact_id,
            lease_id=lease.id,
            lease_seconds=lease.expires - now,
            expires=lease.expires,
        )
        return facts, seal_grant(self._ring.unwrap(key, wrapped), context, output.keyset.release)

    def _conclude(
        self,
        transaction: Transaction,
        name: Digest,
        request: Request,
        granted: tuple[Facts, Grant] | Refused | None,
        *,
        now: int,
    ) -> StoredAnswer:
        """The transaction of one request; whatever comes of it, its nonce is used up."""
        kept = transaction.answer(name, now)
        if kept is not None:  # the same bytes, answered while these were read
            return kept
        if now >= self._forgotten + FORGET_SECONDS:
            transaction.forget(now)
            transaction.forget_cell_asks(now)
            self._forgotten = now
        stored = transaction.lease(request.lease_id)
        lease = leases.check_active(stored.lease if stored else None, now=now)
        if not transaction.cell_ask(lease.id, request.nonce):
            raise _answered()
        try:
            if isinstance(granted, Refused):
                raise granted
            answer = StoredAnswer(True, codec.encode(self._move(transaction, request, lease, granted, now=now)))
        except Refused as error:
            unlogged = self._refusals.take(now)
            if unlogged is not None:
                self._log.append(transaction, leaves.cell_refused(error, request, lease, time=now, unlogged=unlogged))
            answer = StoredAnswer(False, to_problem(error))
        transaction.keep_answer(name, answer, now + RETRY_SECONDS)
        return answer

    def _move(
        self, transaction: Transaction, request: Request, lease: Lease, granted: tuple[Facts, Grant] | None, *, now: int
    ) -> CellAnswer:
        """Write a yes down. Raises `Refused` only before the first write."""
        before = _cell_of(transaction, request.cell_id, lease)
        after = _advanced(before, request) if isinstance(request, Advance) else _spent(before, request)
        used, grant = "", None
        if granted is not None:
            facts, grant = granted
            still_holds(transaction, facts, now=now)
            self._administrators.check_signed(facts.policies)
            orders.check(transaction, facts.keys, now=now)
            notes, keys = notes_at(transaction, lease), [key.id for key in facts.keys]
            granting = of_names(keys, [policy.id for policy in facts.policies])
            check_not_revoked(transaction, granting)
            used = uses.count(transaction, keys, boot=notes.boot)
            transaction.note_lease(lease.id, dataclasses.replace(notes, subjects=notes.subjects | granting))
        if not transaction.change_cell(before, after):
            raise StoreUnavailable("a cell changed within a transaction")
        leaf = leaves.cell_changed(
            request, keyset=lease.keyset, time=now, value=after.value, grant=grant.digest if grant else None, uses=used
        )
        proof = self._log.append(transaction, leaf)
        openings = transaction.openings(proof.index)
        return CellAnswer(after.value, sign_grant(grant, self._signing) if grant else None, proof, openings)


def _cell_of(reader: Reader, cell_id: str, lease: Lease) -> Cell:
    cell = reader.cell(cell_id)
    if cell is None:
        raise ReleaseRefused("there is no such cell", detail="cell.unknown")
    if cell.policy_id != lease.policy_id:
        raise ReleaseRefused("this cell is under another policy than the lease", detail="cell.policy")
    return cell


def _advanced(cell: Cell, request: Advance) -> Cell:
    if cell.kind is not CellKind.COUNTER:
        raise ReleaseRefused("only a counter is advanced", detail="cell.kind")
    if cell.value != request.expected:
        raise ReleaseRefused(
            f"this counter is not at {request.expected}",
            detail="cell.expected",
            remedy="Look at the cell: somebody advanced it, or what you hold is old.",
        )
    return dataclasses.replace(cell, value=request.next, digest=request.digest, changes=cell.changes + 1)


def _spent(cell: Cell, request: Spend) -> Cell:
    if cell.kind is not CellKind.BUDGET:
        raise ReleaseRefused("only a budget is spent", detail="cell.kind")
    if cell.value < request.amount:
        raise ReleaseRefused(
            f"this budget does not have {request.amount} left",
            detail="cell.spent",
            remedy="Spend less, or ask the owner for a budget of its own.",
        )
    return dataclasses.replace(cell, value=cell.value - request.amount, changes=cell.changes + 1)


def _answered() -> NonceReused:
    return NonceReused("this request was answered before", detail="cell.nonce")


def _give(answer: StoredAnswer) -> CellAnswer:
    if not answer.released:
        raise from_problem(answer.body, 403)
    return read_back(CellAnswer, answer.body)
