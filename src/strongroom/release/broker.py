"""The broker: all that one broker is made of, and what workers ask of it.

Knows: which part answers what, and that an answer leaves only with the signatures of the witnesses who must sign the log
(`witnesses`), also one that was kept; a policy may demand witnesses of its own (`demands`). Does not know: the order of an
attempt (`attempts`), HTTP (`services.broker`), SQL (`stores`), what evidence proves (the appraiser), what administrators do
(`administration`, `lifecycle`, `administrators`), cells (`cells`). Not covered: several brokers over one store.
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
    ReleaseRefused,
    UsageError,
    WitnessesUnavailable,
)
from strongroom.receipts.cosignature import Quorum
from strongroom.records import codec
from strongroom.records.audit import AuditPage, AuditQuery
from strongroom.records.cell import CellAnswer
from strongroom.records.destruction import DestructionDocument
from strongroom.records.enrolment import Enrolled
from strongroom.records.envelope import Envelope
from strongroom.records.release import (
    PURPOSE_RELEASE,
    BrokerIdentity,
    Challenge,
    ExtensionRequest,
    LogProof,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    renewal_purpose,
)
from strongroom.release import leases, leaves
from strongroom.release.administration import Administration
from strongroom.release.administrators import Administrators
from strongroom.release.archive import KEEP_DAYS, Archive
from strongroom.release.attempts import Attempts, Question
from strongroom.release.cells import Cells
from strongroom.release.challenges import Challenger
from strongroom.release.clock import WatchedClock, decision_time
from strongroom.release.decisions import (
    Appraiser,
    Judge,
    extension_facts,
    release_facts,
    renewal_facts,
)
from strongroom.release.demands import Demands
from strongroom.release.enrolments import Enroller, Enrolments
from strongroom.release.erasure import Erasure
from strongroom.release.explain import Explainer
from strongroom.release.keys import KeyRing
from strongroom.release.lifecycle import Lifecycle
from strongroom.release.log import Log
from strongroom.release.present import Present
from strongroom.release.refusals import RefusalBudget
from strongroom.release.roles import Caller, Verb
from strongroom.release.state import BrokerKeys
from strongroom.release.stores.port import Store, Transaction
from strongroom.release.sweep import Sweep, Sweeper
from strongroom.release.wire import RECEIPTS_PAYLOAD_TYPE, ReceiptsRoot
from strongroom.release.witnesses import Witnesses

TOKENS = "owner-token"
ROOT_BYTES = 32

_A = TypeVar("_A", ReleaseAnswer, CellAnswer, DestructionDocument, Enrolled)


class Broker:
    """One broker over one store. Every method may be called from many threads, and may raise `StoreUnavailable`.

    `owner_keys` are the roots among its administrators; an empty list is refused (`UsageError`). `now` is in Unix
    seconds. What decisions rested on is kept for `keep_days`. With `present`, which then is the appraiser too, evidence is
    judged by collateral no older than the broker's own, and leases can be swept. `enroller` signs notes on TPMs, if there is one.
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
        enroller: Enroller | None = None,
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
        self._demands = Demands(store)
        self.explainer = Explainer(
            store, appraiser=appraiser, administrators=self.administrators, demands=self._demands
        )
        challenger, refusals = Challenger(keys.challenge), RefusalBudget()
        self._judge = Judge(keys, ring, appraiser=appraiser, administrators=self.administrators)
        self._attempts = Attempts(
            store, self.log, challenger, self.administrators, self.archive, refusals, self._demands, present
        )
        self.cells = Cells(
            store,
            self.log,
            keys,
            ring,
            administrators=self.administrators,
            refusals=refusals,
            demands=self._demands,
        )
        self.erasure = Erasure(store, self.log)
        self.enrolments = Enrolments(store, self.log, keys.challenge, enroller=enroller, present=present)
        self.present = present
        self._sweeper: Sweeper | None = None
        self.sweep: Sweep | None = None
        if present is not None:
            self.sweep = Sweep(
                store, self.administration.revocations, present.again, administrators=self.administrators
            )
        self._witnesses: Witnesses | None = None

    def witness(self, witnesses: Witnesses) -> None:
        """From now on an answer needs the signatures of `witnesses`, which have begun; they end with this broker."""
        self._witnesses = self._demands.witnesses = witnesses

    def sweep_every(self, seconds: float) -> None:
        """From now on read anew what is given, and sweep, each `seconds`, until this broker is closed."""
        if self.present is not None and self.sweep is not None:
            who, clock = self.identity.fingerprint, WatchedClock()
            self._sweeper = Sweeper(
                self.sweep,
                self.present.refresh,
                seconds=seconds,
                who=who,
                clock=lambda: decision_time(int(clock()), self.log.time),
            )

    def challenge(self, purpose: str, *, now: int) -> Challenge:
        """A fresh nonce for `purpose`; nothing is stored. Raises `ReleaseRefused` or `ClockWrong`."""
        return self._attempts.challenger.issue(purpose, now=decision_time(now, self.log.time))

    def release(self, body: bytes, *, now: int) -> ReleaseAnswer:
        """Answer the bytes of a `ReleaseRequest`.

        Raises `AppraisalRefused` or `ReleaseRefused` (also `NonceReused`) for a no, `MalformedRecord` or
        `MalformedEvidence` for bytes that do not parse, `WitnessesUnavailable` for a yes that too few witnesses signed,
        `ClockWrong` where the clock is behind the log.
        """
        question = Question(
            ReleaseRequest,
            lambda _: PURPOSE_RELEASE,
            lambda reader, request, _: release_facts(reader, request),
            lambda request, facts, now: self._judge.release(request, facts, now=now),
        )
        return self.witnessed(self._attempts.answer(body, question, now=now))

    def renew(self, lease_id: str, body: bytes, *, now: int) -> ReleaseAnswer:
        """Answer the bytes of a `RenewalRequest` for the lease `lease_id`.

        Raises as `release` does, and `LeaseEnded`.
        """
        question = Question(
            RenewalRequest,
            lambda request: _purpose_of(lease_id, request),
            lambda reader, request, now: renewal_facts(reader, request, now=now),
            lambda request, facts, now: self._judge.renewal(request, facts, now=now),
        )
        return self.witnessed(self._attempts.answer(body, question, now=now))

    def extend(self, lease_id: str, body: bytes, *, now: int) -> ReleaseAnswer:
        """Answer the bytes of an `ExtensionRequest` for the lease `lease_id`. Raises as `renew` does."""
        question = Question(
            ExtensionRequest,
            lambda request: _purpose_of(lease_id, request),
            lambda reader, request, now: extension_facts(reader, request, now=now),
            lambda request, facts, now: self._judge.renewal(request, facts, now=now),
        )
        return self.witnessed(self._attempts.answer(body, question, now=now))

    def post_receipts(self, envelope: Envelope, *, now: int) -> LogProof:
        """Log the Merkle root of receipts made under a live lease, signed by its receipt key.

        Raises `LeaseEnded`, `SignatureInvalid`, `MalformedRecord`, or `NonceReused` for a root that was logged before.
        """
        now = decision_time(now, self.log.time)
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

    def time(self, now: int) -> int:
        """The time of an administrator's act: `now`, or the last logged time where the clock is behind it.

        Ending a lease always works.
        """
        return max(now, self.log.time)

    def authorise(self, token: str, verb: Verb, *, method: str, path: str, body: bytes, now: int) -> Caller:
        """The administrator who signed `token` for this one request, which is to do `verb`.

        Raises `NotAuthorised`, and `NotPermitted` where their role does not have it.
        """
        now = self.time(now)
        who, claims = self.administrators.speaking(token, method=method, path=path, body=body, now=now)
        if not self.store.write(lambda transaction: transaction.consume(TOKENS, claims.jti, claims.exp)):
            raise NotAuthorised("this token was used before", detail="jti", remedy="Sign the request anew.")
        return Caller(who, verb)

    def audit(self, query: AuditQuery, *, sees: Callable[..., bool]) -> AuditPage:
        """One page of the log with what is kept of its decisions and opens its leaves, where `sees` admits what they name.

        Raises `LogInvalid` or `MalformedRecord`.
        """
        cosigned = None
        if self._witnesses is not None and not query.size:
            cosigned = self._witnesses.newest()
        return self.store.read(lambda reader: self.archive.page(reader, query, sees=sees, cosigned=cosigned))

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
        return dataclasses.replace(answer, proof=self._settle(answer.proof, self._demands.of(answer)))

    def _settle(self, proof: LogProof, demands: Sequence[Quorum] = ()) -> LogProof:
        """`proof`, signed by as many witnesses as must. Raises `WitnessesUnavailable`; what was decided stays decided."""
        if self._witnesses is not None:
            return self._witnesses.settle(proof, demands)
        if demands:
            raise WitnessesUnavailable(
                "a policy demands witnesses, and this broker has none", detail="policy.witnesses"
            )
        return proof


def _purpose_of(lease_id: str, request: RenewalRequest | ExtensionRequest) -> str:
    """What the evidence must be made for. Raises `ReleaseRefused` for a request that names another lease than its path."""
    if request.lease_id != lease_id:
        raise ReleaseRefused("this request is for another lease", detail="lease.id")
    return renewal_purpose(lease_id)
