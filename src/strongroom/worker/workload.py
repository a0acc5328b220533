"""The port between a worker and what it runs.

Knows: what every workload is given and must be able to do. Does not know: any workload.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from strongroom.receipts.receipt import Issuer, SealedReceipt
from strongroom.records.digest import Digest
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.receipt import Receipt, commitment
from strongroom.records.session import ReleaseProof
from strongroom.sealed.open import OpenedArtifact
from strongroom.worker.keys import WorkerKeys

SALT_BYTES = 32

Watcher = Callable[[Receipt, SealedReceipt], None]
"""Is told a request's receipt when it is made; it must not fail."""
_WATCHERS: ContextVar[tuple[Watcher, ...]] = ContextVar("strongroom_watchers", default=())


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` the receipts that are made within, for the request that is answered here and no other."""
    token = _WATCHERS.set((*_WATCHERS.get(), watcher))
    try:
        yield
    finally:
        _WATCHERS.reset(token)


class Workload(Protocol):
    """What runs inside: inference, a job, and later training, knowledge and the others."""

    name: str

    def prepare(self) -> None:
        """Spawn confined children. Called first, when no key exists yet, so that no fork can copy one."""
        ...

    async def open(self, artifacts: Sequence[OpenedArtifact]) -> str:
        """Take the opened artifacts, in the order of the statement, and get ready; a sentence for people says how far it came.

        The data keys are wiped afterwards, but for those of artifacts that the workload takes over (`OpenedArtifact.moved`).
        """
        ...

    async def run(self, session: Session) -> None:
        """Work until there is nothing left to do, or until `session.draining` is set; then end what is under way."""
        ...

    def wipe(self) -> None:
        """End every child and close every descriptor that holds plaintext. Called always, also twice; never fails."""
        ...


@dataclass(slots=True)
class Session:
    """One lease's worth of work: what a workload may use while it runs."""

    keys: WorkerKeys
    prove: Callable[[bytes, str], EvidenceBundle]
    evidence: Digest
    policy: Digest
    artifacts: tuple[Digest, ...]
    statement: Digest
    release: ReleaseProof
    clock: Callable[[], int]
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    sequence: int = 0
    leaves: list[Digest] = field(default_factory=list)

    def receipt(
        self,
        workload: str,
        *,
        request_sha256: bytes,
        response_sha256: bytes,
        usage: Mapping[str, int],
        outcome: str,
        namespace: bytes | None = None,
        model: Digest | None = None,
        adapter: Digest | None = None,
    ) -> SealedReceipt:
        """Sign what was done. The salt is fresh and travels only inside the sealed answer.

        `namespace` (32 bytes) names the part of a prefix cache that the answer could draw on, None where there is none; `model`
        is the artifact that answered, and `adapter` the one that was applied to it for this request.
        """
        salt = secrets.token_bytes(SALT_BYTES)
        self.sequence += 1
        receipt = Receipt(
            workload=workload,
            keyset=self.keys.keyset.digest,
            statement=self.statement,
            evidence=self.evidence,
            policy=self.policy,
            artifacts=self.artifacts,
            request=commitment(salt, "request", request_sha256),
            response=commitment(salt, "response", response_sha256),
            usage=usage,
            outcome=outcome,
            lease_id=self.release.lease_id,
            chain=self.release.chain,
            sequence=self.sequence,
            time=self.clock(),
            cache=None if namespace is None else commitment(salt, "cache", namespace),
            model=model,
            adapter=adapter,
        )
        self.leaves.append(receipt.digest)
        sealed = SealedReceipt(Issuer(self.keys.receipt).issue(receipt), salt, namespace)
        for watcher in _WATCHERS.get():
            watcher(receipt, sealed)
        return sealed


def sha256(data: bytes) -> bytes:
    """SHA-256 of a request or response in one piece."""
    return hashlib.sha256(data).digest()
