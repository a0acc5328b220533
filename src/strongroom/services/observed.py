"""A worker seen from outside: layers around its gateway that count and time, the page of its numbers, its collector.

Knows: which label each request gets, when its answer began and ended, who may read the numbers. Does not know: formats and the list
of what may be recorded (`observe`), what is asked. `outside` stands before the channel, where wires and refusals are seen; `inside`
behind it, where paths and statuses are true. Nothing of what a client sends gets into a number: an unknown path is `other`, and
headers are not looked at but for the reader's token.

For speed, what passes for each token are plain functions that hand on what the next one returns, and no coroutines of their own.

Safety: the numbers are for whoever has the token. The worker knows its SHA-256 alone, which its measured configuration names; so the
token has to be random, and tokens shorter than `LEAST_TOKEN` characters are not taken. Not covered: several readers with tokens of
their own.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.channel import ehbp, ohttp, v2
from strongroom.channel.server import SEALED, values
from strongroom.errors import UsageError
from strongroom.observe import prometheus
from strongroom.observe.registry import SECONDS, Registry
from strongroom.observe.spans import Spans
from strongroom.observe.table import ENDPOINTS, OTHER, STATES, STATUSES
from strongroom.receipts.receipt import SealedReceipt
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.receipt import Receipt
from strongroom.records.session import EVIDENCE_PATH
from strongroom.worker.workload import watching

METRICS_PATH = "/metrics"
LEAST_TOKEN = 32
_API = "/v1/"
_NAMED = {"/healthz": "health", EVIDENCE_PATH: "evidence"}
_ASKING = frozenset(ENDPOINTS) - {"models", "receipts", "health", "evidence", OTHER}


def token_digest(token: bytes) -> Digest:
    """What a worker is told of a reader's token. Raises `UsageError` for one that could be guessed from it."""
    token = token.strip()
    if len(token) < LEAST_TOKEN or not token.isascii():
        raise UsageError(
            f"a token for the numbers has at least {LEAST_TOKEN} random characters",
            remedy="Make one: openssl rand -hex 32.",
        )
    return digest_bytes(token)


class Observer:
    """What counts for one worker. `registry` and `spans` are what it has counted."""

    def __init__(
        self,
        *,
        model: str,
        slots: int,
        token: Digest | None = None,
        seconds: float = SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`token` is `token_digest` of who may read; without one there is no page."""
        self.model, self._token, self._monotonic, self._clock = model, token, monotonic, clock
        self.registry = Registry(models=[model], seconds=seconds, clock=monotonic)
        self.spans = Spans(models=[model])
        self.registry.level("strongroom_slots", slots)
        self.registry.level("strongroom_in_flight", 0)

    def state(self, state: str) -> None:
        """The worker's life has come to `state`."""
        for known in STATES:
            self.registry.level("strongroom_state", float(known == state), state=known)

    def outside(self, app: ASGIApp) -> ASGIApp:
        """The outermost layer."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            if scope["path"] == METRICS_PATH and self._token is not None:
                await self._page(scope, send)
                return
            wire = _wire(scope)

            def noted(message: Message) -> Awaitable[None]:
                if message["type"] == "http.response.start":
                    self.registry.count("strongroom_answers_total", wire=wire, status=_status(message["status"]))
                return send(message)

            await app(scope, receive, noted)

        return observed

    def inside(self, app: ASGIApp) -> ASGIApp:
        """The layer right before the routes."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            asked = _Asked(_endpoint(scope["path"]), self._monotonic, self._clock(), self._monotonic())
            counted = bool(scope.get(SEALED)) and asked.endpoint in _ASKING

            def noted(message: Message) -> Awaitable[None]:
                asked.sent(message)
                return send(message)

            if counted:
                self.registry.count("strongroom_in_flight")
            try:
                with watching(asked.receipted):
                    await app(scope, receive, noted)
            finally:
                if counted:
                    self.registry.count("strongroom_in_flight", -1)
                self._record(asked, asking=counted)

        return observed

    def _record(self, asked: _Asked, *, asking: bool) -> None:
        endpoint, status = asked.endpoint, _status(asked.status)
        labels = endpoint, status, asked.outcome, self.model if asking else OTHER
        _, _, outcome, model = labels
        self.registry.count("strongroom_requests_total", endpoint=endpoint, status=status, outcome=outcome, model=model)
        if not asking:
            return
        took = self._monotonic() - asked.began
        self.registry.measure("strongroom_duration_seconds", took, endpoint=endpoint)
        if asked.streamed and asked.pieces:
            self.registry.measure("strongroom_first_output_seconds", asked.first - asked.began, endpoint=endpoint)
        if asked.streamed and asked.pieces > 1:
            gap = (asked.last - asked.first) / (asked.pieces - 1)
            self.registry.measure("strongroom_output_gap_seconds", gap, endpoint=endpoint)
        for side in ("prompt", "completion"):
            if asked.tokens(side):
                self.registry.count("strongroom_tokens_total", asked.tokens(side), side=side, model=self.model)
        self.spans.add(
            labels=labels,
            prompt_tokens=asked.tokens("prompt"),
            completion_tokens=asked.tokens("completion"),
            began=asked.at,
            seconds=took,
        )

    async def _page(self, scope: Scope, send: Send) -> None:
        """The numbers, for GET with the token; the comparison takes the same time whatever was shown."""
        shown = values(scope, "authorization")
        given = shown[0].removeprefix("Bearer ").encode("latin-1") if len(shown) == 1 else b""
        known = hmac.compare_digest("sha256:" + hashlib.sha256(given).hexdigest(), str(self._token))
        if not known or not shown[0].startswith("Bearer "):
            await _answer(send, 401, "text/plain", b"", (b"www-authenticate", b"Bearer"))
        elif scope["method"] != "GET":
            await _answer(send, 405, "text/plain", b"", (b"allow", b"GET"))
        else:
            page = prometheus.text(self.registry.published()).encode()
            await _answer(send, 200, prometheus.MEDIA_TYPE, page, (b"cache-control", b"no-store"))


@dataclass(slots=True)
class _Asked:
    """One request as far as it has come."""

    endpoint: str
    clock: Callable[[], float]
    at: float
    began: float
    status: int = 0
    streamed: bool = False
    pieces: int = 0
    first: float = 0.0
    last: float = 0.0
    outcome: str = "none"
    usage: dict[str, int] = field(default_factory=dict)

    def sent(self, message: Message) -> None:
        """A message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            kinds = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
            self.streamed = bool(kinds) and kinds[0].startswith(b"text/event-stream")
        elif message.get("body"):
            self.last = self.clock()
            self.first = self.first or self.last
            self.pieces += 1

    def receipted(self, receipt: Receipt, _: SealedReceipt) -> None:
        """Its receipt says how it ended."""
        self.outcome, self.usage = receipt.outcome, dict(receipt.usage)

    def tokens(self, side: str) -> int:
        return max(0, self.usage.get(f"{side}_tokens", 0))


def _endpoint(path: str) -> str:
    if path in _NAMED:
        return _NAMED[path]
    name = path.removeprefix(_API).replace("/", ".") if path.startswith(_API) else OTHER
    if name.startswith("models."):
        return "models"
    return name if name in ENDPOINTS else OTHER


def _status(status: int) -> str:
    return str(status) if str(status) in STATUSES else OTHER


def _wire(scope: Scope) -> str:
    if scope["path"] == v2.PATH:
        return "v2"
    if scope["path"] == ohttp.GATEWAY_PATH:
        return "ohttp"
    return "v1" if values(scope, ehbp.ENCAPSULATION_HEADER) else "clear"


async def _answer(send: Send, status: int, media_type: str, body: bytes, header: tuple[bytes, bytes]) -> None:
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(body)).encode()),
        header,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
