"""One attempt of a worker, from the bytes of its request to the broker's answer, and the one order in which that happens.

Limits, parse, what was kept, challenge, facts, judgement; then, in one transaction: the nonce is consumed, the facts are
looked at again, lease, leaf and answer are written. Only when that is durable does the answer, with its grants, leave.
Knows: that order. Does not know: what a release or a renewal needs (`Question`, from the broker), who must sign the log
before an answer leaves (`demands`), SQL (`stores`).

A nonce is consumed by compare-and-swap, also when the attempt fails. The same bytes within 60 s get the answer that was
kept, never a new decision; kept answers hold only sealed grants. Refusals of a live challenge are leaves too, so many a
minute.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from strongroom.errors import (
    MalformedRecord,
    NonceReused,
    Refused,
    ServiceUnavailable,
    StoreUnavailable,
    StrongroomError,
    Unreadable,
)
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, frame
from strongroom.records.release import Challenge, ExtensionRequest, ReleaseAnswer, ReleaseRequest, RenewalRequest
from strongroom.release import leaves, orders, uses
from strongroom.release.administrators import Administrators
from strongroom.release.archive import Archive
from strongroom.release.challenges import Challenger
from strongroom.release.clock import decision_time
from strongroom.release.decisions import Facts, Yes, still_holds
from strongroom.release.demands import Demands
from strongroom.release.log import Log
from strongroom.release.present import Present
from strongroom.release.problem import from_problem, to_problem
from strongroom.release.refusals import RefusalBudget
from strongroom.release.revocations import check_not_revoked
from strongroom.release.stores.checked import read_back
from strongroom.release.stores.port import Reader, Store, StoredAnswer, StoredLease, Transaction
from strongroom.release.subjects import notes_at
from strongroom.release.wire import MAX_EVIDENCE_BYTES

RETRY_SECONDS = 60
FORGET_SECONDS = 30
CHALLENGES = "challenge"
MAX_JUDGEMENTS = 5

Request = ReleaseRequest | RenewalRequest | ExtensionRequest
_R = TypeVar("_R", ReleaseRequest, RenewalRequest, ExtensionRequest)


@dataclass(frozen=True, slots=True)
class Question(Generic[_R]):
    """What is asked: the record that carries it, the purpose its challenge must have, the facts it rests on, the judgement.

    `facts` and `judge` are given the time to decide by, which may be later than that of the request.
    """

    kind: type[_R]
    purpose: Callable[[_R], str]
    facts: Callable[[Reader, _R, int], Facts]
    judge: Callable[[_R, Facts, int], Yes]


@dataclass(slots=True)
class Attempts:
    """The attempts at one broker. May be shared by threads; `present` is None where no newer collateral is known."""

    store: Store
    log: Log
    challenger: Challenger
    administrators: Administrators
    archive: Archive
    refusals: RefusalBudget
    demands: Demands
    present: Present | None
    forgotten: int = 0

    def answer(self, body: bytes, question: Question[_R], *, now: int) -> ReleaseAnswer:
        """The answer to `body`, before anybody witnessed it; see the module's head for the order."""
        if len(body) > MAX_EVIDENCE_BYTES:
            raise MalformedRecord(f"a request of {len(body)} bytes exceeds the limit of {MAX_EVIDENCE_BYTES}")
        now = decision_time(now, self.log.time)
        name = digest_bytes(frame(question.kind.TYPE, body))
        request = codec.decode(question.kind, body)
        for _ in range(MAX_JUDGEMENTS):
            try:
                return _give(self._once(name, request, question, now=max(now, self.log.time)))
            except _Overtaken:
                continue
        raise ServiceUnavailable(
            "later decisions came before this one each time", remedy="Send the same request again."
        )

    def _once(self, name: Digest, request: _R, question: Question[_R], *, now: int) -> StoredAnswer | ReleaseAnswer:
        """Raises `_Overtaken` where the log has gone on to a later time meanwhile."""

        def look(reader: Reader) -> StoredAnswer | Facts | StrongroomError:
            kept = reader.answer(name, now)
            if kept is not None:
                return kept
            self.challenger.check(request.challenge, question.purpose(request), now=now)
            self.demands.check_ready()
            try:
                _check_unused(reader, request.challenge)
                return question.facts(reader, request, now)
            except (Refused, Unreadable) as error:
                return error

        found = self.store.read(look)
        if isinstance(found, StoredAnswer):
            return found
        outcome = self._judged(request, found, question, now=now) if isinstance(found, Facts) else found
        return self.store.write(lambda transaction: self._conclude(transaction, name, request, outcome, now=now))

    def _judged(self, request: _R, facts: Facts, question: Question[_R], *, now: int) -> Yes | StrongroomError:
        """With collateral no older than the broker's own, and with what the archive will keep of it."""
        try:
            self.demands.check(facts.policies)
            if self.present is not None:
                request = dataclasses.replace(request, bundle=self.present.newest(request.bundle, now=now))
            yes = question.judge(request, facts, now)
            return dataclasses.replace(yes, kept=self.archive.prepare(request.bundle, yes.token, yes.outlines))
        except (Refused, Unreadable) as error:
            return error

    def _conclude(
        self, transaction: Transaction, name: Digest, request: Request, outcome: Yes | StrongroomError, *, now: int
    ) -> StoredAnswer | ReleaseAnswer:
        """The transaction of one attempt; whatever comes of it, the nonce is consumed."""
        kept = transaction.answer(name, now)
        if kept is not None:  # the same bytes, answered while these were judged
            return kept
        if isinstance(outcome, Yes) and now < self.log.time_in(transaction):
            raise _Overtaken
        if now >= self.forgotten + FORGET_SECONDS:
            transaction.forget(now)
            self.forgotten = now
        challenge = request.challenge
        if not transaction.consume(CHALLENGES, challenge.nonce, challenge.expires):
            return self._refuse(transaction, NonceReused("this challenge was answered before"), request, now=now)
        answer = self._decide(transaction, request, outcome, now=now)
        kept = answer if isinstance(answer, StoredAnswer) else StoredAnswer(True, codec.encode(answer))
        transaction.keep_answer(name, kept, now + RETRY_SECONDS)
        return answer

    def _decide(
        self, transaction: Transaction, request: Request, outcome: Yes | StrongroomError, *, now: int
    ) -> StoredAnswer | ReleaseAnswer:
        """A yes, unless something changed meanwhile, or a no, written down."""
        if isinstance(outcome, Yes):
            try:
                return self._grant(transaction, request, outcome, now=now)
            except Refused as error:
                outcome = error
        return self._refuse(transaction, outcome, request, now=now)

    def _grant(self, transaction: Transaction, request: Request, yes: Yes, *, now: int) -> ReleaseAnswer:
        """Write a yes down. Raises `Refused` only before the first write."""
        still_holds(transaction, yes.facts, now=now)
        self.administrators.check_signed(yes.facts.policies)
        check_not_revoked(transaction, yes.notes.subjects)
        leaf, notes = yes.leaf, yes.notes
        if yes.facts.asked:
            orders.check(transaction, yes.facts.asked, now=now)
            used = uses.count(transaction, [key.id for key in yes.facts.asked], boot=notes.boot)
            leaf = leaves.with_uses(leaf, used)
        if yes.facts.lease is None:
            receipt_key = request.bundle.evidence.keyset.receipt
            transaction.add_lease(StoredLease(yes.lease, receipt_key, receipts_sequence=0))
        elif not transaction.renew_lease(yes.lease):  # `still_holds` looked at it in this very transaction
            raise StoreUnavailable("a lease changed within a transaction")
        else:  # what it came to concern since stays: keys that its spends were granted
            notes = dataclasses.replace(notes, subjects=notes.subjects | notes_at(transaction, yes.lease).subjects)
        proof = self.log.append(transaction, leaf)
        transaction.note_lease(yes.lease.id, dataclasses.replace(notes, position=proof.index))
        self.archive.keep(transaction, proof.index, yes.kept, now=now)
        return ReleaseAnswer(yes.token, yes.lease.id, yes.seconds, yes.grants, proof)

    def _refuse(self, transaction: Transaction, error: StrongroomError, request: Request, *, now: int) -> StoredAnswer:
        unlogged = self.refusals.take(now)
        if unlogged is not None:
            leaf = leaves.refused(
                error,
                time=now,
                purpose=request.challenge.purpose,
                evidence=request.bundle.evidence,
                unlogged=unlogged,
            )
            self.log.append(transaction, leaf)
        return StoredAnswer(False, to_problem(error))


class _Overtaken(Exception):
    """A leaf of a later time was logged while this was judged; a decision's leaf has the decision's own time."""


def _check_unused(reader: Reader, challenge: Challenge) -> None:
    """Spares the judgement of a nonce that is known to be used; what decides is the compare-and-swap later."""
    if reader.is_consumed(CHALLENGES, challenge.nonce, challenge.expires):
        raise NonceReused("this challenge was answered before")


def _give(answer: StoredAnswer | ReleaseAnswer) -> ReleaseAnswer:
    if isinstance(answer, ReleaseAnswer):
        return answer
    if not answer.released:
        raise from_problem(answer.body, 403)
    return read_back(ReleaseAnswer, answer.body)
