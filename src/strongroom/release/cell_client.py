"""A worker's hold on cells at its broker: advance a counter, spend a budget, look.

Knows: how a request is signed and sent, and what of an answer is checked before it is believed: the log's proof, and
that the leaf says exactly what was asked. Does not know: leases (the caller has one), or what the numbers count. When
no answer came, the same request is sent once more, which never moves a cell twice.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import ed25519_public, open_envelope, sign_envelope
from strongroom.errors import GrantInvalid, LogInvalid, ServiceUnavailable
from strongroom.receipts.hidden import reveal
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.cell import Advance, Cell, CellAnswer, CellView, Look, Output, Spend
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.release import GrantContext, Use, WrappedKey
from strongroom.records.worker import Keyset, Statement
from strongroom.release import leaves
from strongroom.release.client import BrokerClient
from strongroom.release.grants import open_sealed, read_grant
from strongroom.release.wire import CELL_NONCE_BYTES, CELL_PAYLOAD_TYPE, CELL_VIEW_PAYLOAD_TYPE

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class CellClient:
    """The cells that one worker may move under one lease. May be shared by threads.

    `receipt_key` and `release_key` are the private halves of `keyset`. Every verb raises what the broker raised
    (`ReleaseRefused`, `LeaseEnded`, `NonceReused`), `ServiceUnavailable` where it is away, and `LogInvalid` where its
    answer is not what it logged.
    """

    client: BrokerClient
    lease_id: str
    keyset: Keyset
    statement: Statement
    receipt_key: Ed25519PrivateKey
    release_key: ReleaseKey

    def advance(self, cell_id: str, *, expected: int, number: int, digest: Digest) -> CellAnswer:
        """Move a counter from `expected` to `number`, with `digest` beside it, which the log shows to everybody."""
        request = Advance(cell_id, self.lease_id, _nonce(), expected, number, digest)
        answer = self._ask("advance", request, CellAnswer)
        self._check(request, answer, None)
        if answer.value != number or answer.grant is not None:
            raise LogInvalid("the broker moved a counter to another number than was asked")
        return answer

    def spend(self, cell_id: str, amount: int, *, purpose: str) -> CellAnswer:
        """Take `amount` from a budget; `value` of the answer is what is left. Everybody may read `purpose` in the log."""
        request = Spend(cell_id, self.lease_id, _nonce(), amount, purpose, None)
        answer = self._ask("spend", request, CellAnswer)
        self._check(request, answer, None)
        if answer.grant is not None:
            raise LogInvalid("the broker granted what was not asked for")
        return answer

    def spend_for_key(
        self, cell_id: str, amount: int, *, purpose: str, wrapped: WrappedKey
    ) -> tuple[CellAnswer, bytes]:
        """Take `amount` from a budget and obtain the output key (32 bytes) in `wrapped`, to seal with. Both or neither.

        Raises `GrantInvalid` besides.
        """
        request = Spend(cell_id, self.lease_id, _nonce(), amount, purpose, Output(wrapped, self.keyset))
        answer = self._ask("spend", request, CellAnswer)
        if answer.grant is None:
            raise GrantInvalid("the broker spent without the grant that was asked for")
        grant = read_grant(answer.grant, self.client.identity)
        self._check(request, answer, grant.digest)
        return answer, open_sealed(grant, self._context(request, wrapped, grant.context), self.release_key)

    def look(self, cell_id: str) -> Cell:
        """How a cell stands now, signed by the broker for this question alone."""
        request = Look(cell_id, self.lease_id, _nonce())
        envelope = self._ask("look", request, Envelope)
        payload = open_envelope(envelope, CELL_VIEW_PAYLOAD_TYPE, [ed25519_public(self.client.identity.signing)])
        view = codec.decode(CellView, payload)
        if (view.nonce, view.cell.id) != (request.nonce, cell_id):
            raise LogInvalid("the broker answered another question")
        return view.cell

    def _ask(self, verb: str, request: Advance | Spend | Look, kind: type[T]) -> T:
        envelope = sign_envelope(CELL_PAYLOAD_TYPE, codec.encode(request), self.receipt_key)
        try:
            return self.client.ask_cell(request.cell_id, verb, envelope, kind)
        except ServiceUnavailable:
            return self.client.ask_cell(request.cell_id, verb, envelope, kind)

    def _check(self, request: Advance | Spend, answer: CellAnswer, grant: Digest | None) -> None:
        identity = self.client.identity
        logged = verify_proof(
            answer.proof, origin=identity.log_origin, log_key=identity.log, witnesses=self.client.witnesses
        )
        leaf, _ = reveal(logged, answer.openings)
        uses = leaf.detail.partition(leaves.USES)[2]
        wanted = leaves.cell_changed(
            request, keyset=self.keyset.digest, time=leaf.time, value=answer.value, grant=grant, uses=uses
        )
        if leaf != wanted:
            raise LogInvalid("the broker logged something else than what it was asked")

    def _context(self, request: Spend, wrapped: WrappedKey, said: GrantContext) -> GrantContext:
        """What the grant must be bound to; policy and times are the broker's to say."""
        return GrantContext(
            nonce=request.nonce,
            keyset=self.keyset.digest,
            statement=self.statement.digest,
            evidence=request.request_digest,
            policy=said.policy,
            key_id=wrapped.key_id,
            use=Use.SEAL,
            artifact=digest_bytes(wrapped.artifact_id),
            artifact_id=wrapped.artifact_id,
            lease_id=self.lease_id,
            lease_seconds=said.lease_seconds,
            expires=said.expires,
        )


def _nonce() -> bytes:
    return secrets.token_bytes(CELL_NONCE_BYTES)
