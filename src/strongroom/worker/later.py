"""What a running worker opens besides: measured first, asked for next, and only then opened in the place of what was there.

Knows: that order, and what of it is taken back: nothing that was measured. Does not know: when a lease is renewed (`life` asks for
the keys with its next renewal, which this makes due at once), or what a workload does with an artifact (`Exchanging`).
Nothing is measured that is not signed by its owner and sealed under a broker's key. Where the broker refuses, what was there
stays; if the policy does not admit what was measured, the next renewal is refused too and the worker ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from strongroom.errors import GrantInvalid, MalformedArtifact, StrongroomError, UsageError
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import ARTIFACT, Event, Evidence
from strongroom.records.release import (
    BrokerIdentity,
    ExtensionRequest,
    KeyRequest,
    ReleaseAnswer,
    Use,
    WrappedKey,
)
from strongroom.release.grants import open_grant
from strongroom.sealed.open import OpenedArtifact, Opener
from strongroom.worker.workload import Session


@runtime_checkable
class Exchanging(Protocol):
    """A workload that can take another artifact in the place of one that it has."""

    exchangeable: int
    """How many of its artifacts, from the first on."""

    async def exchange(self, position: int, artifact: OpenedArtifact) -> str:
        """Go on with `artifact`; a sentence for people. As for `Workload.open` otherwise. What was there is let go of."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """Another artifact for the input at `position`."""

    position: int
    opener: Opener


class Later:
    """The later openings of one worker; for one event loop. `again` looks all of `inputs` up anew, in their order."""

    def __init__(self, inputs: Sequence[Opener], again: Callable[[], Sequence[Opener]] | None) -> None:
        self._inputs, self._again = list(inputs), again
        self._look, self.due = asyncio.Event(), asyncio.Event()
        self._wanted: tuple[Change, ...] = ()
        self._answer: asyncio.Future[tuple[Evidence, ReleaseAnswer]] | None = None

    def look(self) -> None:
        """Look all inputs up anew, soon."""
        self._look.set()

    @property
    def keys(self) -> tuple[KeyRequest, ...]:
        """What the next renewal is to ask for."""
        return tuple(KeyRequest(x.opener.digest, wrapped_key(x.opener), Use.OPEN) for x in self._wanted)

    def answered(self, request: ExtensionRequest, answer: ReleaseAnswer) -> None:
        """The broker's yes."""
        self._settle(lambda future: future.set_result((request.bundle.evidence, answer)))

    def refused(self, error: StrongroomError) -> None:
        """The broker's no, which is not about the lease."""
        self._settle(lambda future: future.set_exception(error))

    async def keep(
        self,
        workload: object,
        session: Session,
        measure: Callable[[Event], tuple[Digest, ...]],
        broker: Callable[[], BrokerIdentity],
        report: Callable[[str], None],
    ) -> None:
        """Do what `look` asks for, one time after the other. `measure` says what was opened then, all told."""
        while True:
            await self._look.wait()
            self._look.clear()
            try:
                await self._once(workload, session, measure, broker, report)
            except StrongroomError as error:
                report(f"not exchanged: {error.message}")
            except Exception as error:  # noqa: BLE001 (whatever it was, the next look must find somebody here)
                report(f"not exchanged: {type(error).__name__}")

    async def _once(
        self,
        workload: object,
        session: Session,
        measure: Callable[[Event], tuple[Digest, ...]],
        broker: Callable[[], BrokerIdentity],
        report: Callable[[str], None],
    ) -> None:
        if self._again is None or not isinstance(workload, Exchanging):
            raise UsageError("this workload keeps what it opened at its start", remedy="Start another worker.")
        found = await asyncio.to_thread(self._again)
        changes = self._changes(found, workload.exchangeable)
        if not changes:
            report("nothing new to open")
            return
        for change in changes:
            session.artifacts = await asyncio.to_thread(measure, Event(ARTIFACT, change.opener.digest))
        evidence, answer = await self._released(changes)
        session.evidence = evidence.digest
        if len(answer.grants) != len(changes):
            raise GrantInvalid("the broker's answer does not fit what was asked")
        identity = await asyncio.to_thread(broker)
        for change, envelope in zip(changes, answer.grants, strict=True):

            def opened(opener: Opener = change.opener, envelope: Envelope = envelope) -> OpenedArtifact:
                artifact = open_input(opener, envelope, evidence, session, identity)
                if session.draining.is_set():  # nobody may wait for it any more
                    artifact.close()
                return artifact

            artifact = await asyncio.to_thread(opened)
            try:
                said = await workload.exchange(change.position, artifact)
            finally:
                artifact.close()
            self._inputs[change.position] = change.opener
            report(f"{change.opener.digest[:19]} instead of what was there: {said}")

    def _changes(self, found: Sequence[Opener], exchangeable: int) -> tuple[Change, ...]:
        """What is another artifact now. Raises `MalformedArtifact` and `UsageError` before anything is measured."""
        pairs = enumerate(zip(found, self._inputs, strict=True))
        changes = tuple(Change(position, new) for position, (new, old) in pairs if new.digest != old.digest)
        if any(change.position >= exchangeable for change in changes):
            raise UsageError("one of these cannot be exchanged while it is used", remedy="Start another worker.")
        for change in changes:
            wrapped_key(change.opener)
        return changes

    async def _released(self, changes: tuple[Change, ...]) -> tuple[Evidence, ReleaseAnswer]:
        self._answer = asyncio.get_running_loop().create_future()
        self._wanted = changes
        self.due.set()
        return await self._answer

    def _settle(self, act: Callable[[asyncio.Future[tuple[Evidence, ReleaseAnswer]]], None]) -> None:
        self._wanted = ()
        self.due.clear()
        if self._answer is not None and not self._answer.done():
            act(self._answer)


def open_input(
    opener: Opener, envelope: Envelope, evidence: Evidence, session: Session, broker: BrokerIdentity
) -> OpenedArtifact:
    """The artifact of `opener`, by the grant that answers `evidence`. Raises `GrantInvalid`, and what opening raises."""
    data_key = open_grant(
        envelope,
        broker=broker,
        release_key=session.keys.release,
        evidence=evidence,
        artifact=opener.digest,
        wrapped=wrapped_key(opener),
        lease_id=session.release.lease_id,
    )
    return opener.open(data_key)


def wrapped_key(opener: Opener) -> WrappedKey:
    """The artifact's data key as its broker wrapped it. Raises `MalformedArtifact` if no broker can release it."""
    wrapped = opener.header.keys.broker
    if wrapped is None:
        raise MalformedArtifact(
            "this artifact is sealed to recipients only", remedy="Seal it under a key at a broker (--key)."
        )
    return wrapped
