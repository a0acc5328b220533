"""Receipts kept for who asked: an ASGI layer inside the seal, before the routes.

A client that puts `strongroom-receipt-key`, 32 random bytes, inside its sealed request can ask for that request's receipt later,
`GET /v1/receipts` with the same header inside: also of a stream that was cut before its receipt came.

Safety: a receipt opens only by the key that its owner chose, and only the key's hash is kept. Another key, one that was never used, one
whose receipt is gone and one of a wrong form are answered alike. Both directions are sealed, so nobody on the way sees a key.

Knows: where a key stands, how many receipts are kept and how long. Does not know: what a receipt says. They are in memory and end with
the worker; what is logged for ever is the root over their digests (`worker.life`). Not covered: version 1 of the channel, which seals no
headers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from strongroom.channel.server import SEALED_FIELDS, values
from strongroom.receipts.receipt import SealedReceipt
from strongroom.records import codec
from strongroom.records.fetched import RECEIPT_KEY_FIELD, RECEIPTS_PATH, is_receipt_key
from strongroom.records.receipt import Receipt
from strongroom.worker.workload import watching

MOST = 4096
SECONDS = 3600.0
_TAG = b"strongroom/receipt-key/v1\0"


class Shelf:
    """Wraps `app`; keeps the newest `most` receipts for `seconds` each."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        most: int = MOST,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._most, self._seconds, self._clock = app, most, seconds, clock
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope) if scope["type"] == "http" else None
        if scope["type"] == "http" and scope["path"] == RECEIPTS_PATH:
            await self._fetch(scope, key, send)
        elif key is not None:
            name = _name(key)

            def keep(_: Receipt, sealed: SealedReceipt) -> None:
                self._keep(name, codec.encode(sealed))

            with watching(keep):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _keep(self, name: bytes, sealed: bytes) -> None:
        self._forget()
        self._kept[name] = self._clock() + self._seconds, sealed
        self._kept.move_to_end(name)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def _forget(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            self._kept.popitem(last=False)

    async def _fetch(self, scope: Scope, key: str | None, send: Send) -> None:
        self._forget()
        if not scope.get(SEALED_FIELDS):
            await _answer(send, 403, _said("channel.refused", "receipts are given only sealed, headers and all"))
        elif scope["method"] != "GET":
            await _answer(send, 405, _said("usage", "receipts are got"))
        else:
            found = self._kept.get(_name(key)) if key is not None else None
            unknown = _said("receipt.unknown", "there is no receipt under this key, or no longer")
            await _answer(send, 404 if found is None else 200, unknown if found is None else found[1])


def _key(scope: Scope) -> str | None:
    if not scope.get(SEALED_FIELDS):
        return None
    given = values(scope, RECEIPT_KEY_FIELD)
    return given[0] if len(given) == 1 and is_receipt_key(given[0]) else None


def _name(key: str) -> bytes:
    return hashlib.sha256(_TAG + bytes.fromhex(key)).digest()


def _said(code: str, message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": code, "code": code}}).encode()


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
