"""Evidence from a machine that was started, and the broker's verdict on it.

Knows: that the machine's policy admits one image and the registers that were computed before it booted, and nothing else; that READY
needs the broker's release, signed under a pinned fingerprint. Does not know: states (`launcher`). Evidence is fetched and judged by
the client that users have (`client`), with a nonce of our own. Not covered: that it is this very machine, and not another one that was
launched from the same specification and answers at the same address (they run the same, each with keys of its own); several brokers.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any, Protocol

import httpx2

from strongroom.appraisal import appraise, require
from strongroom.appraisal.explain import measured_inputs
from strongroom.appraisal.kinds import kind_of
from strongroom.client.client import Client
from strongroom.client.verification import Trust, Verification, accept
from strongroom.errors import ServiceUnavailable, StrongroomError, UsageError
from strongroom.launch.explain import explain_launch
from strongroom.launch.measure import Expected
from strongroom.launch.measure.reference import reference_of
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.evidence import Evidence
from strongroom.records.launch import LaunchSpec
from strongroom.records.policy import Policy, Requirement
from strongroom.records.release import PURPOSE_SESSION
from strongroom.records.session import WorkerProof
from strongroom.records.verdict import Verdict

KNOCK_SECONDS = 2.0
"""In all, from the first packet to the last header."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a machine proved: `evidence` is kept with the journal."""

    evidence: bytes


@dataclass(frozen=True, slots=True)
class Readiness:
    """The broker's verdict: `evidence` is kept with the journal; `lease_id` is what a take-down ends."""

    evidence: bytes
    lease_id: str


class Attest(Protocol):
    """How a launcher hears from its machine. Both verbs raise `Refused` for a no, `ServiceUnavailable` for no answer."""

    def check(self, spec: LaunchSpec, expected: Expected) -> None:
        """Whether evidence of this launch could be judged at all. Raises `NotMeasurable` or `UsageError`."""

    def knock(self) -> None:
        """Whether anybody is there; nothing that is said is believed. Raises `ServiceUnavailable`."""

    def prove(self, spec: LaunchSpec, expected: Expected) -> Proof:
        """Evidence for a fresh nonce, equal to what is expected."""
        ...

    def ready(self) -> Readiness:
        """The broker's verdict on the machine that has just proved itself."""
        ...

    def refused(self) -> dict[str, Any]:
        """What there is to say and keep of evidence that was not accepted."""
        ...


class WorkerAttest(Client):
    """A worker's machine, asked at its service address, with a user's `trust` (see `Client`); `broker` must be among it."""

    def __init__(self, url: str, **trust: Any) -> None:
        super().__init__(url, **trust)
        if self.trust.broker is None:
            raise UsageError(
                "a machine is ready by its broker's verdict alone", remedy="Give the broker's fingerprint."
            )
        self._theirs: Policy = self.trust.policy
        self._expected: tuple[LaunchSpec, Expected] | None = None
        self._proof: WorkerProof | None = None
        self._verdict: Verdict | None = None
        self._outcome: Verification | StrongroomError | None = None

    def check(self, spec: LaunchSpec, expected: Expected) -> None:
        """See `Attest.check`."""
        self.trust = replace(self.trust, policy=policy_for(self._theirs, spec, expected))
        self._expected = spec, expected

    def prove(self, spec: LaunchSpec, expected: Expected) -> Proof:
        """See `Attest.prove`."""
        self.check(spec, expected)
        self._proof = self._verdict = self._outcome = None
        self.knock()
        try:
            self._outcome = self.verify()
        except StrongroomError as error:
            if self._proof is None or self._verdict is None or not self._verdict.accepted:
                raise
            self._outcome = error
        if self._proof is None:
            raise ServiceUnavailable("the machine gives no evidence")
        return Proof(codec.encode(self._proof))

    def knock(self) -> None:
        """See `Attest.knock`. Hypervisors accept a forwarded connection long before the guest does; nothing said is believed."""
        try:
            asyncio.run(asyncio.wait_for(self._knock(), KNOCK_SECONDS))
        except (httpx2.HTTPError, TimeoutError) as error:
            raise ServiceUnavailable(f"the machine does not answer ({type(error).__name__})") from None

    async def _knock(self) -> None:
        """One request, of whose answer the head is read and no more: who has not proved anything may send for ever."""
        options = self.way.options(None) | {"verify": False}
        async with (
            httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(**options), timeout=KNOCK_SECONDS) as http,
            http.stream("GET", self.url + "/healthz"),
        ):
            return

    def ready(self) -> Readiness:
        """See `Attest.ready`."""
        if isinstance(self._outcome, StrongroomError):
            raise self._outcome
        if self._outcome is None:
            raise UsageError("a machine is asked for its broker's verdict before it has proved itself")
        return Readiness(codec.encode(self._outcome.document), self._outcome.release.lease_id)

    def refused(self) -> dict[str, Any]:
        """See `Attest.refused`."""
        if self._proof is None:
            return {"proof": None, "inputs": []}
        inputs = []
        if self._verdict is not None and self._expected is not None:
            inputs = explain_evidence(*self._expected, self._proof.bundle.evidence, self._verdict)
        return {"proof": json.loads(codec.encode(self._proof)), "inputs": inputs}

    def _judge(self, answer: bytes, nonce: bytes, keyset: Digest | None) -> Verification:
        """Two steps that are told apart: what the machine is, and what its broker says."""
        del keyset
        self._proof = codec.decode(WorkerProof, answer)
        self._verdict = judge(self._proof, self.trust, nonce=nonce, now=int(self._clock()))
        require(self._verdict)
        return accept(self._proof, self._verdict, self.trust)


def judge(proof: WorkerProof, trust: Trust, *, nonce: bytes, now: int) -> Verdict:
    """The verdict on the machine's own evidence."""
    return appraise(
        proof.bundle,
        policy=trust.policy,
        anchors=trust.anchors,
        nonce=nonce,
        purpose=PURPOSE_SESSION,
        now=now,
        known=trust.known,
    )


def policy_for(policy: Policy, spec: LaunchSpec, expected: Expected) -> Policy:
    """`policy`, which from now on admits this launch alone: its image, its registers, its specification where it is measured.

    Raises `NotMeasurable` where a register that has to be pinned was not computed.
    """
    wanted = policy.launch_spec
    if kind_of(spec.tee).launch_spec is not None:
        wanted = Requirement(one_of=(spec.digest,))
    return replace(policy, references=(reference_of(spec, expected),), builders=(), launch_spec=wanted)


def explain_evidence(spec: LaunchSpec, expected: Expected, evidence: Evidence, verdict: Verdict) -> list[str]:
    """Which input of the launch made a register differ; the machine's own log counts only if it replays."""
    if evidence.kind != spec.tee:
        return [f"the specification is of a {spec.tee} machine, the evidence of {evidence.kind}"]
    broken = [c for c in verdict.failed if ".log." in c.id and c.id.endswith((".parse", ".replay"))]
    actual = measured_inputs(evidence.kind, evidence.log) if evidence.log and not broken else ()
    said = explain_launch(expected, kind_of(evidence.kind).stated(evidence.quote), actual)
    if evidence.statement.launch_spec not in {None, spec.digest}:
        said.insert(0, f"launch specification: expected {spec.digest}, stated {evidence.statement.launch_spec}")
    return said
