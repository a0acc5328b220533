"""Receipts fetched later: a key goes inside each sealed request, and opens that request's receipt at the worker for an hour.

For answers that broke off: their receipt was signed all the same, with the outcome `cut` or `failed`, and only who asked can have it.

Knows: where the key stands, what a fetched receipt must say. Does not know: connections (`client.client`), where receipts are kept.
Version 1 of the channel seals no headers, so nothing is put into its requests.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httpx2

from strongroom.channel import exchange
from strongroom.client.verification import Verification
from strongroom.errors import ReceiptInvalid, ServiceUnavailable
from strongroom.receipts.receipt import SALT_BYTES, SealedReceipt, verify_signature_only
from strongroom.records import codec
from strongroom.records.fetched import KEY_BYTES, RECEIPT_KEY_FIELD
from strongroom.records.receipt import Receipt, commitment

MAX_RECEIPT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was sent: `key` opens its receipt, `request_sha256` (32 bytes) is what that must be about.

    `verification` is of the worker that got the request; no other has its receipt.
    """

    key: str
    request_sha256: bytes
    verification: Verification

    def __repr__(self) -> str:
        return f"Asked({self.request_sha256.hex()[:16]}…)"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A receipt that was fetched and holds for its request. What it says of the response can be checked against the response only."""

    receipt: Receipt
    sealed: SealedReceipt


Note = Callable[[Asked], None]


class KeyedTransport(httpx2.BaseTransport):
    """Puts a key into each request with a body that `inner` seals, and tells `note` of it before it is sent."""

    def __init__(self, inner: httpx2.BaseTransport, verification: Verification, note: Note) -> None:
        self._inner, self._verification, self._note = inner, verification, note

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises what `inner` raises."""
        body = exchange.collect(cast("httpx2.SyncByteStream", request.stream))
        return self._inner.handle_request(_keyed(request, body, self._verification, self._note))

    def close(self) -> None:
        self._inner.close()


class AsyncKeyedTransport(httpx2.AsyncBaseTransport):
    """The asynchronous twin of `KeyedTransport`."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, verification: Verification, note: Note) -> None:
        self._inner, self._verification, self._note = inner, verification, note

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises what `inner` raises."""
        body = await exchange.collect_async(cast("httpx2.AsyncByteStream", request.stream))
        return await self._inner.handle_async_request(_keyed(request, body, self._verification, self._note))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _keyed(request: httpx2.Request, body: bytes, verification: Verification, note: Note) -> httpx2.Request:
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != RECEIPT_KEY_FIELD.encode()]
    if body:
        asked = Asked(secrets.token_hex(KEY_BYTES), hashlib.sha256(body).digest(), verification)
        headers.append((RECEIPT_KEY_FIELD.encode(), asked.key.encode()))
        note(asked)
    stream = httpx2.ByteStream(body)
    return httpx2.Request(request.method, request.url, headers=headers, stream=stream, extensions=request.extensions)


def check(asked: Asked, status: int, body: bytes) -> Fetched:
    """What a worker answered when it was asked for a receipt, once it is signed by that worker and about this request.

    Raises `ServiceUnavailable` where there is none, or not yet; `ReceiptInvalid` where it is of another request.
    """
    if status != httpx2.codes.OK:
        raise ServiceUnavailable(
            "the worker has no receipt for this request",
            remedy="Ask again in a moment: a receipt is made when the answer ends. A worker keeps it for an hour at most.",
            detail=f"status {status}",
        )
    sealed = codec.decode(SealedReceipt, body)
    evidence = asked.verification.bundle.evidence
    receipt = verify_signature_only(sealed.envelope, evidence.keyset)
    if len(sealed.salt) != SALT_BYTES or receipt.request != commitment(sealed.salt, "request", asked.request_sha256):
        raise ReceiptInvalid("this receipt is for another request", detail="request")
    if receipt.statement != evidence.statement.digest or receipt.artifacts != evidence.artifacts:
        raise ReceiptInvalid("this receipt is of another workload than the evidence", detail="statement")
    return Fetched(receipt, sealed)
