"""A worker's whole life in order: prepare, measure, prove, obtain, open, run, renew, drain, wipe.

Knows: the order, and that wiping happens however it ends. Does not know: what runs (`workload`), how evidence is made (`attester`),
how a broker decides (`release`). READY follows from the broker's yes and from nothing on this host.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from strongroom.crypto import merkle
from strongroom.errors import (
    GrantInvalid,
    LeaseEnded,
    LogInvalid,
    NonceReused,
    ReleaseRefused,
    StrongroomError,
    Unavailable,
)
from strongroom.receipts.chain import chain_head
from strongroom.records import codec
from strongroom.records.digest import Digest, raw
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.release import (
    PURPOSE_RELEASE,
    ExtensionRequest,
    KeyRequest,
    Leaf,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    Use,
    renewal_purpose,
)
from strongroom.records.session import ReleaseProof
from strongroom.records.worker import Configuration, Statement
from strongroom.release.client import BrokerClient
from strongroom.release.leaves import CHAIN
from strongroom.sealed.open import OpenedArtifact, Opener
from strongroom.worker.attester import Attester, Device
from strongroom.worker.keys import WorkerKeys
from strongroom.worker.later import Later, open_input, wrapped_key
from strongroom.worker.lease import BootClock, Term, boot_clock
from strongroom.worker.workload import Session, Workload

LAST_RECEIPTS_SECONDS = 5.0
_NEVER_OF_AN_EXTENSION = (LeaseEnded, LogInvalid, GrantInvalid)
"""What ends a worker also where it asked for more than its lease: the lease's end, and a broker that is not what it should be."""
T = TypeVar("T")


class State(enum.StrEnum):
    """Where a worker is in its life; there is no way back."""

    STARTED = "started"
    PREPARED = "prepared"
    PROVED = "proved"
    OPENED = "opened"
    READY = "ready"
    DRAINING = "draining"
    WIPED = "wiped"


@dataclass(frozen=True, slots=True)
class Place:
    """The TEE a worker runs in: its device, its kind, where collateral comes from, and what was launched there."""

    kind: str
    device: Device
    collateral: Callable[[], Collateral]
    image: Digest
    launch_spec: Digest | None


@dataclass(frozen=True, slots=True)
class Released:
    """The broker's yes, and the evidence that it answers."""

    answer: ReleaseAnswer
    bundle: EvidenceBundle


@dataclass(frozen=True, slots=True)
class Asked:
    """A renewal that no answer came to, and the boot clock before it was first sent."""

    at: float
    request: RenewalRequest | ExtensionRequest


class Worker:
    """One life. `report` is told each state with a sentence for people; `clock` gives Unix seconds, `boot` the boot clock.

    `again` looks all `inputs` up anew, in their order, for `look_again`.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        place: Place,
        broker: BrokerClient,
        configuration: Configuration,
        inputs: Sequence[Opener],
        again: Callable[[], Sequence[Opener]] | None = None,
        clock: Callable[[], int],
        boot: BootClock = boot_clock,
        report: Callable[[State, str], None] = lambda _state, _text: None,
    ) -> None:
        self._workload, self._place, self._broker = workload, place, broker
        self._configuration, self._inputs = configuration, inputs
        self._clock, self._boot, self._report = clock, boot, report
        self._stop = asyncio.Event()
        self._later = Later(inputs, again)
        self._term = Term(0.0, 0)
        self._unanswered: Asked | None = None
        self._behind = self._extending = False

    def stop(self) -> None:
        """Ask for an orderly end: drain, wipe, stop."""
        self._stop.set()

    def look_again(self) -> None:
        """Ask for what the inputs' references mean now: another artifact is measured, asked for, and takes its place."""
        self._later.look()

    async def live(self) -> None:
        """From first to last. Raises what ended it early: a refusal, an ended lease, a workload's failure."""
        try:
            await asyncio.to_thread(self._workload.prepare)  # children first: they must never inherit a key
            self._report(State.PREPARED, "children are spawned and hold no key")
            attester, session, released = await self._obtain()
            await self._work(attester, session, released)
        finally:
            self._workload.wipe()
            self._report(State.WIPED, "children ended, plaintext closed, keys dropped")

    async def _obtain(self) -> tuple[Attester, Session, Released]:
        """Measure, prove, obtain. The term counts from before the request.

        Measured once a boot: so the broker is looked for before, in case it is away or is another.
        """
        await asyncio.to_thread(lambda: self._broker.identity)
        keys = WorkerKeys.generate(now=self._clock(), tls=bool(self._configuration.settings.get("tls")))
        attester = await asyncio.to_thread(self._measure, keys)
        asked = self._boot()
        bundle, answer, policy = await asyncio.to_thread(self._release, attester)
        release = ReleaseProof(
            token=answer.token,
            proof=answer.proof,
            broker=self._broker.identity_envelope,
            lease_id=answer.lease_id,
            chain=chain_head(None, answer.token),
        )
        session = Session(
            keys=keys,
            prove=attester.prove,
            evidence=bundle.evidence.digest,
            policy=policy,
            artifacts=attester.statement.artifacts,
            statement=attester.statement.digest,
            release=release,
            clock=self._clock,
        )
        self._term = Term(asked, answer.lease_seconds)
        return attester, session, Released(answer, bundle)

    def _measure(self, keys: WorkerKeys) -> Attester:
        """Extend what will be opened into the run-time register, before any key is asked for."""
        place, configuration = self._place, self._configuration
        statement = Statement(
            workload=configuration.workload,
            image=place.image,
            launch_spec=place.launch_spec,
            artifacts=tuple(opener.digest for opener in self._inputs),
            configuration=configuration.digest,
        )
        return Attester(place.device, place.collateral, kind=place.kind, keyset=keys.keyset, statement=statement)

    def _release(self, attester: Attester) -> tuple[EvidenceBundle, ReleaseAnswer, Digest]:
        challenge = self._broker.challenge(PURPOSE_RELEASE)
        bundle = attester.prove(challenge.nonce, PURPOSE_RELEASE)
        self._report(State.PROVED, f"evidence {bundle.evidence.digest[:19]} answers the broker's nonce")
        wanted = tuple(KeyRequest(opener.digest, wrapped_key(opener), Use.OPEN) for opener in self._inputs)
        answer = self._broker.release(ReleaseRequest(challenge, bundle, wanted))
        policy = self._broker.verdict(answer.token).policy
        if policy is None or len(answer.grants) != len(self._inputs):
            raise GrantInvalid("the broker's answer does not fit what was asked")
        return bundle, answer, policy

    async def _work(self, attester: Attester, session: Session, released: Released) -> None:
        """Open, run and renew side by side; whichever ends first ends the others. Wiped before the term ends, whoever is away."""
        running = asyncio.create_task(self._open_and_run(session, released, attester))
        renewing = asyncio.create_task(self._keep_lease(session))
        stopping = asyncio.create_task(self._until_stopped())
        try:
            await asyncio.wait({running, renewing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._report(State.DRAINING, "no new work is taken")
            session.draining.set()
            await asyncio.wait({running}, timeout=self._term.left(self._boot()))
            self._workload.wipe()  # before anything that may take its time
            await self._log_receipts(session, LAST_RECEIPTS_SECONDS)
            for task in (renewing, running):  # an ended lease is the reason to give, before what it did to the work
                if task.done():
                    task.result()
        finally:
            for task in (running, renewing, stopping):
                task.cancel()
            await asyncio.gather(running, renewing, stopping, return_exceptions=True)

    async def _open_and_run(self, session: Session, released: Released, attester: Attester) -> None:
        """Opening a large model may take longer than a lease; it is renewed meanwhile."""
        opened: list[OpenedArtifact] = []
        try:
            await asyncio.to_thread(self._open, released, session, opened)
            said = await self._workload.open(opened)
        finally:
            for artifact in opened:
                artifact.close()
        if session.draining.is_set():
            return
        self._report(State.OPENED, said)
        self._report(State.READY, f"lease {session.release.lease_id}, {self._term.seconds} s")
        looking = asyncio.create_task(
            self._later.keep(
                self._workload,
                session,
                attester.measure,
                lambda: self._broker.identity,
                lambda text: self._report(State.READY, text),
            )
        )
        try:
            await self._workload.run(session)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def _open(self, released: Released, session: Session, opened: list[OpenedArtifact]) -> None:
        """Into `opened`, which its owner closes; on a thread, which looks for itself whether it should stop."""
        for opener, envelope in zip(self._inputs, released.answer.grants, strict=True):
            if session.draining.is_set():
                return
            artifact = open_input(opener, envelope, released.bundle.evidence, session, self._broker.identity)
            opened.append(artifact)
            if session.draining.is_set():
                artifact.close()

    async def _until_stopped(self) -> None:
        await self._stop.wait()

    async def _keep_lease(self, session: Session) -> None:
        """Renew by fresh evidence; raises `LeaseEnded` early enough that everything is wiped when the term ends: no grace.

        A renewal whose answer got lost may have been decided: the same bytes go out again, and the term counts from before
        they first did.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._later.due.wait(), self._term.until_renewal(self._boot()))
            now = self._boot()
            if self._term.over(now):
                raise LeaseEnded("the lease runs out and could not be renewed")
            try:
                asked, answer = await asyncio.wait_for(apart(lambda: self._renew(session)), self._term.drains - now)
            except (Unavailable, TimeoutError):
                await asyncio.sleep(self._term.until_retry(self._boot()))
                continue
            except StrongroomError as error:
                if not self._extending or isinstance(error, _NEVER_OF_AN_EXTENSION):
                    raise
                self._later.refused(error)  # the next plain renewal says whether this worker goes on
                continue
            self._term = Term(asked.at, answer.lease_seconds)
            session.release = dataclasses.replace(
                session.release,
                token=answer.token,
                proof=answer.proof,
                chain=self._link(session.release.chain, answer),
            )
            if isinstance(asked.request, ExtensionRequest):
                self._later.answered(asked.request, answer)
            await self._log_receipts(session, self._term.until_renewal(self._boot()))

    def _renew(self, session: Session) -> tuple[Asked, ReleaseAnswer]:
        """The answer, and what it answers."""
        self._extending = False
        if self._unanswered is not None:
            try:
                return self._send(self._unanswered)
            except ReleaseRefused as error:
                if not isinstance(error, NonceReused) and error.detail != "challenge.expired":
                    raise
                self._behind = True  # the broker keeps its answer no more; whether it was a yes, its log says
        lease_id = session.release.lease_id
        purpose = renewal_purpose(lease_id)
        at = self._boot()
        challenge = self._broker.challenge(purpose)
        bundle, keys = session.prove(challenge.nonce, purpose), self._later.keys
        request: RenewalRequest | ExtensionRequest = RenewalRequest(challenge, bundle, lease_id)
        if keys:
            request = ExtensionRequest(challenge, bundle, lease_id, keys)
        return self._send(Asked(at, request))

    def _send(self, asked: Asked) -> tuple[Asked, ReleaseAnswer]:
        """Remembered until it is answered, by whatever."""
        self._unanswered, self._extending = asked, isinstance(asked.request, ExtensionRequest)
        try:
            answer = self._broker.renew(asked.request)
        except Unavailable:
            raise
        except StrongroomError:
            self._unanswered = None
            raise
        self._unanswered = None
        return asked, answer

    def _link(self, before: Digest, answer: ReleaseAnswer) -> Digest:
        """The head of the lease's chain with `answer`; the log's word, where a renewal in between was never heard of.

        Raises `LogInvalid` where the two differ and nothing was lost.
        """
        head = chain_head(before, answer.token)
        logged = codec.decode(Leaf, answer.proof.leaf).digests[CHAIN]
        if logged != head and not self._behind:
            raise LogInvalid("the broker's chain of this lease is another than its worker's")
        self._behind = False
        return logged

    async def _log_receipts(self, session: Session, seconds: float) -> None:
        """One Merkle root an interval, for all receipts since the last; a broker that is away or slow gets them next time."""
        leaves = list(session.leaves)
        if not leaves:
            return
        root = merkle.root([merkle.leaf_hash(raw(leaf)) for leaf in leaves])
        lease_id, key = session.release.lease_id, session.keys.receipt
        with contextlib.suppress(StrongroomError, TimeoutError):
            posting = apart(lambda: self._broker.post_receipts(lease_id, key, len(leaves), root))
            await asyncio.wait_for(posting, seconds)
            del session.leaves[: len(leaves)]


async def apart(work: Callable[[], T]) -> T:
    """`work` on a thread that nobody waits for: a broker that drips its answer must not keep a wiped worker's process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever asked
            loop.call_soon_threadsafe(lambda: None if done.done() else act())

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
            settle(functools.partial(done.set_exception, error))
        else:
            settle(functools.partial(done.set_result, result))

    threading.Thread(target=run, name="strongroom-broker", daemon=True).start()
    return await done
