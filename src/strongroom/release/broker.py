"""The broker: what workers ask of it, and the one way in which it answers.

Knows: the order of an attempt. Limits, parse, challenge, facts, judgement; then, in one transaction: the nonce is
consumed, the facts are looked at again, lease, leaf and answer are written. Only when that is durable does the answer,
with its grants, leave. Does not know: HTTP (`services.broker`), SQL (`stores`), what evidence proves (the appraiser),
what owners do (`administration`), cells (`cells`).

A nonce is consumed by compare-and-swap, also when the attempt fails. The same bytes within 60 s get the answer that was
kept, never a new decision; kept answers hold only sealed grants. Refusals of a live challenge are leaves too, so many a
minute. Where witnesses must sign the log, an answer leaves only with their signatures (`witnesses`), also one that was
kept. Not covered: several brokers over one store.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from strongroom.crypto.signatures import ed25519_public, open_envelope
from strongroom.errors import (
    MalformedRecord,
    NonceReused,
    NotAuthorised,
    Refused,
    ReleaseRefused,
    StrongroomError,
    Unreadable,
    UsageError,
)
from strongroom.records import codec
from strongroom.records.audit import AuditPage, AuditQuery
from strongroom.records.cell import CellAnswer
from strongroom.records.destruction import DestructionDocument
from strongroom.records.digest import Digest, digest_bytes, frame
from strongroom.records.envelope import Envelope
from strongroom.records.release import (
    PURPOSE_RELEASE,
    BrokerIdentity,
    Challenge,
    LogProof,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    renewal_purpose,
)
from strongroom.release import leases, leaves, orders, uses
from strongroom.release.administration import Administration
from strongroom.release.administrators import Administrators
from strongroom.release.archive import KEEP_DAYS, Archive
from strongroom.release.cells import Cells
from strongroom.release.challenges import Challenger
from strongroom.release.decisions import (
    Appraiser,
    Facts,
    Judge,
    Yes,
    release_facts,
    renewal_facts,
    still_holds,
)
from strongroom.release.explain import Explainer
from strongroom.release.keys import KeyRing
from strongroom.release.lifecycle import Lifecycle
from strongroom.release.log import Log
from strongroom.release.present import Present
from strongroom.release.problem import from_problem, to_problem
from strongroom.release.refusals import RefusalBudget
from strongroom.release.revocations import check_not_revoked
from strongroom.release.roles import Caller, Verb
from strongroom.release.state import BrokerKeys
from strongroom.release.stores.checked import read_back
from strongroom.release.stores.port import Reader, Store, StoredAnswer, StoredLease, Transaction
from strongroom.release.subjects import notes_at
from strongroom.release.sweep import Sweep, Sweeper
from strongroom.release.wire import MAX_EVIDENCE_BYTES, RECEIPTS_PAYLOAD_TYPE, ReceiptsRoot
from strongroom.release.witnesses import Witnesses

RETRY_SECONDS = 60
FORGET_SECONDS = 30
CHALLENGES, TOKENS = "challenge", "owner-token"
ROOT_BYTES = 32

Request = ReleaseRequest | RenewalRequest
_R = TypeVar("_R", ReleaseRequest, RenewalRequest)
_A = TypeVar("_A", ReleaseAnswer, CellAnswer, DestructionDocument)


class Broker:
    """One broker over one store. Every method may be called from many threads, and may raise `StoreUnavailable`.

    `owner_keys` are the roots among its administrators; an empty list is refused (`UsageError`). `now` is in Unix
    seconds. What decisions rested on is kept for `keep_days`. With `present`, which then is the appraiser too, evidence is
    judged by collateral no older than the broker's own, and leases can be swept.
    """

    def __init__(
        self,
        store: Store,
        keys: BrokerKeys,
        *,
        appraiser: Appraiser,
        owner_keys: Sequence[EllipticCurvePublicKey],
        keep_days: int = KEEP_DAYS,
        present: Present | None = None,
    ) -> None:
        if not owner_keys:
            raise UsageError("a broker without an owner serves nobody", remedy="Name an owner's public key (--owner).")
        self.identity: BrokerIdentity = keys.identity
        self.identity_envelope: Envelope = keys.identity_envelope
        self.store, self._root = store, keys.root
        self.log = Log(self.identity.log_origin, keys.log)
        self.log.open(store)
        self.archive = Archive(self.log, days=keep_days)
        ring = KeyRing(keys.root, self.identity.fingerprint)
        self.administrators = Administrators(store, self.log, broker=self.identity.fingerprint, roots=owner_keys)
        self.administration = Administration(store, self.log, keys, ring, administrators=self.administrators)
        self.lifecycle = Lifecycle(store, self.log, keys, ring)
        self.explainer = Explainer(store, appraiser=appraiser, administrators=self.administrators)
        self._challenger = Challenger(keys.challenge)
        self._judge = Judge(keys, ring, appraiser=appraiser, administrators=self.administrators)
        self._refusals = RefusalBudget()
        self.cells = Cells(store, self.log, keys, ring, administrators=self.administrators, refusals=self._refusals)
        self.present = present
        self._sweeper: Sweeper | None = None
        self.sweep: Sweep | None = None
        if present is not None:
            self.sweep = Sweep(
                store, self.administration.revocations, present.again, administrators=self.administrators
            )
        self._witnesses: Witnesses | None = None
        self._forgotten = 0

    def witness(self, witnesses: Witnesses) -> None:
        """From now on an answer needs the signatures of `witnesses`, which have begun; they end with this broker."""
        self._witnesses = witnesses

    def sweep_every(self, seconds: float) -> None:
        """From now on read anew what is given, and sweep, each `seconds`, until this broker is closed."""
        if self.present is not None and self.sweep is not None:
            who = self.identity.fingerprint
            self._sweeper = Sweeper(self.sweep, self.present.refresh, seconds=seconds, who=who)

    def challenge(self, purpose: str, *, now: int) -> Challenge:
        """A fresh nonce for `purpose`; nothing is stored. Raises `ReleaseRefused`."""
        return self._challenger.issue(purpose, now=now)

    def release(self, body: bytes, *, now: int) -> ReleaseAnswer:
        """Answer the bytes of a `ReleaseRequest`.

        Raises `AppraisalRefused` or `ReleaseRefused` (also `NonceReused`) for a no, `MalformedRecord` or
        `MalformedEvidence` for bytes that do not parse, `WitnessesUnavailable` for a yes that too few witnesses signed.
        """

        def judge(request: ReleaseRequest, facts: Facts) -> Yes:
            return self._judge.release(request, facts, now=now)

        return self.witnessed(
            self._attempt(body, ReleaseRequest, lambda _: PURPOSE_RELEASE, release_facts, judge, now=now)
        )

    def renew(self, lease_id: str, body: bytes, *, now: int) -> ReleaseAnswer:
        """Answer the bytes of a `RenewalRequest` for the lease `lease_id`.

        Raises as `release` does, and `LeaseEnded`.
        """

        def purpose(request: RenewalRequest) -> str:
            if request.lease_id != lease_id:
                raise ReleaseRefused("this request is for another lease", detail="lease.id")
            return renewal_purpose(lease_id)

        def facts(reader: Reader, request: RenewalRequest) -> Facts:
            return renewal_facts(reader, request, now=now)

        def judge(request: RenewalRequest, facts: Facts) -> Yes:
            return self._judge.renewal(request, facts, now=now)

        return self.witnessed(self._attempt(body, RenewalRequest, purpose, facts, judge, now=now))

    def post_receipts(self, envelope: Envelope, *, now: int) -> LogProof:
        """Log the Merkle root of receipts made under a live lease, signed by its receipt key.

        Raises `LeaseEnded`, `SignatureInvalid`, `MalformedRecord`, or `NonceReused` for a root that was logged before.
        """
        root = codec.decode(ReceiptsRoot, envelope.payload)
        if len(root.root) != ROOT_BYTES or root.count < 1 or root.sequence < 1:
            raise MalformedRecord("a root of receipts has 32 bytes, and is over one receipt or more")

        def post(transaction: Transaction) -> LogProof:
            stored = transaction.lease(root.lease_id)
            lease = leases.check_active(stored.lease if stored else None, now=now)
            receipt_key = stored.receipt_key if stored else b""
            open_envelope(envelope, RECEIPTS_PAYLOAD_TYPE, [ed25519_public(receipt_key)])
            if not transaction.advance_receipts(lease.id, root.sequence):
                raise NonceReused("this root of receipts was logged before", detail="receipts.sequence")
            return self.log.append(transaction, leaves.receipts_posted(root, keyset=lease.keyset, time=now))

        return self._settle(self.store.write(post))

    def authorise(self, token: str, verb: Verb, *, method: str, path: str, body: bytes, now: int) -> Caller:
        """The administrator who signed `token` for this one request, which is to do `verb`.

        Raises `NotAuthorised`, and `NotPermitted` where their role does not have it.
        """
        who, claims = self.administrators.speaking(token, method=method, path=path, body=body, now=now)
        if not self.store.write(lambda transaction: transaction.consume(TOKENS, claims.jti, claims.exp)):
            raise NotAuthorised("this token was used before", detail="jti", remedy="Sign the request anew.")
        return Caller(who, verb)

    def audit(self, query: AuditQuery, *, sees: Callable[..., bool]) -> AuditPage:
        """One page of the log with what is kept of its decisions, where `sees` admits the keys of their lease.

        Raises `LogInvalid` or `MalformedRecord`.
        """
        return self.store.read(lambda reader: self.archive.page(reader, query, sees=sees))

    def close(self) -> None:
        """End the sweeps and the witnesses' rounds, close the store and the root key's token."""
        if self._sweeper is not None:
            self._sweeper.close()
        if self._witnesses is not None:
            self._witnesses.close()
        self.store.close()
        self._root.close()

    def witnessed(self, answer: _A) -> _A:
        """`answer`, whose proof as many witnesses signed as must; so it may leave. Raises `WitnessesUnavailable`."""
        return dataclasses.replace(answer, proof=self._settle(answer.proof))

    def _settle(self, proof: LogProof) -> LogProof:
        """`proof`, signed by as many witnesses as must. Raises `WitnessesUnavailable`; what was decided stays decided."""
        return proof if self._witnesses is None else self._witnesses.settle(proof)

    def _attempt(
        self,
        body: bytes,
        kind: type[_R],
        purpose: Callable[[_R], str],
        facts: Callable[[Reader, _R], Facts],
        judge: Callable[[_R, Facts], Yes],
        *,
        now: int,
    ) -> ReleaseAnswer:
        """One attempt, from bytes to answer; see the module's head for the order."""
        if len(body) > MAX_EVIDENCE_BYTES:
            raise MalformedRecord(f"a request of {len(body)} bytes exceeds the limit of {MAX_EVIDENCE_BYTES}")
        name = digest_bytes(frame(kind.TYPE, body))
        request = codec.decode(kind, body)

        def look(reader: Reader) -> StoredAnswer | Facts | StrongroomError:
            kept = reader.answer(name, now)
            if kept is not None:
                return kept
            self._challenger.check(request.challenge, purpose(request), now=now)
            if self._witnesses is not None:
                self._witnesses.check_ready()
            try:
                _check_unused(reader, request.challenge)
                return facts(reader, request)
            except (Refused, Unreadable) as error:
                return error

        found = self.store.read(look)
        if isinstance(found, StoredAnswer):
            return _give(found)
        outcome = found if isinstance(found, StrongroomError) else self._judged(request, found, judge, now=now)
        return _give(self.store.write(lambda transaction: self._conclude(transaction, name, request, outcome, now=now)))

    def _judged(
        self, request: _R, facts: Facts, judge: Callable[[_R, Facts], Yes], *, now: int
    ) -> Yes | StrongroomError:
        try:
            current = self._up_to_date(request, now)
            return self._to_keep(judge(current, facts), current)
        except (Refused, Unreadable) as error:
            return error

    def _conclude(
        self, transaction: Transaction, name: Digest, request: Request, outcome: Yes | StrongroomError, *, now: int
    ) -> StoredAnswer | ReleaseAnswer:
        """The transaction of one attempt; whatever comes of it, the nonce is consumed."""
        kept = transaction.answer(name, now)
        if kept is not None:  # the same bytes, answered while these were judged
            return kept
        self._forget(transaction, now)
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
        if yes.facts.lease is None:
            orders.check(transaction, yes.facts.keys, now=now)
            used = uses.count(transaction, [key.id for key in yes.facts.keys], boot=notes.boot)
            leaf = leaves.with_uses(leaf, used)
            receipt_key = request.bundle.evidence.keyset.receipt
            transaction.add_lease(StoredLease(yes.lease, receipt_key, receipts_sequence=0))
        elif not transaction.renew_lease(yes.lease):
            raise ReleaseRefused("this lease was renewed meanwhile", detail="lease.renewals")
        else:  # what it came to concern since stays: keys that its spends were granted
            notes = dataclasses.replace(notes, subjects=notes.subjects | notes_at(transaction, yes.lease).subjects)
        proof = self.log.append(transaction, leaf)
        transaction.note_lease(yes.lease.id, dataclasses.replace(notes, position=proof.index))
        self.archive.keep(transaction, proof.index, yes.kept, now=now)
        return ReleaseAnswer(yes.token, yes.lease.id, yes.seconds, yes.grants, proof)

    def _up_to_date(self, request: _R, now: int) -> _R:
        """The same, with collateral no older than the broker's own."""
        if self.present is None:
            return request
        return dataclasses.replace(request, bundle=self.present.newest(request.bundle, now=now))

    def _to_keep(self, yes: Yes, request: Request) -> Yes:
        """The same, with what the archive will keep of it."""
        return dataclasses.replace(yes, kept=self.archive.prepare(request.bundle, yes.token, yes.outlines))

    def _refuse(self, transaction: Transaction, error: StrongroomError, request: Request, *, now: int) -> StoredAnswer:
        unlogged = self._refusals.take(now)
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

    def _forget(self, transaction: Transaction, now: int) -> None:
        if now >= self._forgotten + FORGET_SECONDS:
            transaction.forget(now)
            self._forgotten = now


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
