"""The user's end of an oblivious relay: requests encapsulated (`ohttp`), answers opened and proved complete.

Every request goes to the relay as one POST of encapsulated bytes; what was asked, of whom and with which fields is
inside. Requests without a body are sealed too, so nothing has to go in the clear.

Safety: the channel key comes from verified evidence, never from a key list that anybody serves. Only fields that the
worker needs go inside: what is left out cannot tell one user from another. An answer is complete by its last chunk, and
a success to a request with a body by its receipt too, as over EHBP (`exchange`). The text of an answer that is not
sealed is not shown to anybody. We never fall back to whole messages, or to asking the worker itself.

Knows: the rules of an exchange. Does not know: any HTTP client (`relayed`, `relayed_httpx`), who the relay is, whether a receipt is true.
Not covered: an answer to a request that did not go in chunks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from strongroom.channel import bhttp, exchange, ohttp
from strongroom.channel.completion import Splitter, media_type
from strongroom.channel.exchange import Exchange
from strongroom.channel.padding import BUCKET
from strongroom.crypto import hpke
from strongroom.errors import ChannelKeyMismatch, ChannelRefused, RequestReplayed, StrongroomError

_INSIDE = frozenset(
    {b"accept", b"authorization", b"content-type", b"x-api-key", b"anthropic-version", b"anthropic-beta"}
)
_OUR_FIELDS = b"strongroom-"
_DROPPED = frozenset({b"content-length", b"content-encoding", b"transfer-encoding", b"set-cookie"})


HEADERS = {"content-type": ohttp.CHUNKED_REQUEST_TYPE, "incremental": "?1", "accept-encoding": "identity"}
"""What stands around every request, whatever is inside."""


class Url(Protocol):
    """An address as HTTP clients hold it."""

    @property
    def scheme(self) -> str: ...
    @property
    def netloc(self) -> bytes: ...
    @property
    def path(self) -> str: ...
    @property
    def raw_path(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Relay:
    """The way to a worker: the relay's address, and of the worker its X25519 key (32 bytes) from verified evidence.

    `on_exchange` is called when an answer is complete, before its end is handed on; what it raises ends the answer.
    `key_id` and `aead` are those of our own workers, unless it is another's.
    """

    url: str
    public: bytes
    on_exchange: Callable[[Exchange], None]
    key_id: int = ohttp.KEY_ID
    aead: int = hpke.AES_256_GCM

    @property
    def address(self) -> str:
        """Where every request goes."""
        return self.url.rstrip("/") + ohttp.GATEWAY_PATH

    def encapsulate(self, method: str, url: Url, headers: exchange.Headers, body: bytes) -> RelayedRequest:
        """One request, sealed to the worker."""
        return RelayedRequest(self, method, url, headers, body)


class RelayedRequest:
    """One request on its way: `content` travels to the relay's `address`, under `HEADERS`; `begin` judges what comes back."""

    def __init__(self, relay: Relay, method: str, url: Url, headers: exchange.Headers, body: bytes) -> None:
        self._relay, self._body = relay, body
        self._method, self._path = method, url.path
        self._sealer = ohttp.RequestSealer(relay.public, aead=relay.aead, key_id=relay.key_id)
        inner = bhttp.Request(
            method=method.encode(),
            scheme=url.scheme.encode(),
            authority=url.netloc,
            path=url.raw_path,
            fields=((b"host", url.netloc), *_inside(headers)),  # not every gateway makes one
            content=body,
        )
        self.content = self._sealer.seal(bhttp.encode_request(inner, bucket=BUCKET))

    def begin(self, status: int, headers: exchange.Headers) -> RelayedAnswer | None:
        """The answer to be opened, or None for one that is not sealed: then read a little of it and raise `refusal`."""
        kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
        if status != HTTPStatus.OK or media_type(kind.decode("latin-1")) != ohttp.CHUNKED_RESPONSE_TYPE:
            return None
        return RelayedAnswer(self._sealer, self._splitter, self._complete)

    def _splitter(self, status: int, content_type: str) -> Splitter | None:
        """None where no receipt is due: an error that the worker sealed, a request that carried nothing."""
        return Splitter(content_type) if self._body and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES else None

    def _complete(self, status: int, content_type: str, response_sha256: bytes, sealed_receipt: bytes) -> None:
        self._relay.on_exchange(
            Exchange(
                method=self._method,
                path=self._path,
                status=status,
                content_type=media_type(content_type),
                request_sha256=hashlib.sha256(self._body).digest(),
                response_sha256=response_sha256,
                sealed_receipt=sealed_receipt,
            )
        )


class RelayedAnswer:
    """One answer as it arrives. `status` is 0, and `headers` are empty, until its head was opened."""

    def __init__(
        self,
        sealer: ohttp.RequestSealer,
        splitter: Callable[[int, str], Splitter | None],
        complete: Callable[[int, str, bytes, bytes], None],
    ) -> None:
        self._sealer, self._choose, self._complete = sealer, splitter, complete
        self._nonce = bytearray()
        self._opener: ohttp.ResponseOpener | None = None
        self._reader = bhttp.ResponseReader()
        self._splitter: Splitter | None = None
        self.status, self.content_type = 0, ""
        self.headers: list[tuple[bytes, bytes]] = []

    def feed(self, data: bytes) -> bytes:
        """The content that may go on. Raises ChannelRefused and MalformedMessage for what the worker did not send."""
        if self._opener is None:
            missing = self._sealer.nonce_bytes - len(self._nonce)
            self._nonce += data[:missing]
            if len(data) < missing:
                return b""
            data = data[missing:]
            self._opener = self._sealer.opener(bytes(self._nonce))
        return self._read(self._opener.feed(data))

    def finish(self) -> bytes:
        """The last content, once `on_exchange` has seen the exchange. Raises StreamTruncated for a cut answer."""
        if self._opener is None:
            raise ChannelRefused("an answer without a beginning")
        content = self._read(self._opener.finish())
        self._reader.finish()
        if self._splitter is None:
            return content
        rest, completion = self._splitter.finish()
        self._complete(self.status, self.content_type, completion.response_sha256, completion.sealed_receipt)
        return content + rest

    def _read(self, message: bytes) -> bytes:
        content = self._reader.feed(message)
        if not self.status and self._reader.status:
            fields = self._reader.fields
            self.content_type = next((v.decode("latin-1") for name, v in fields if name == b"content-type"), "")
            self.headers = [field for field in fields if field[0] not in _DROPPED]
            self._splitter = self._choose(self._reader.status, self.content_type)
            self.status = self._reader.status
        return content if self._splitter is None else self._splitter.feed(content)


def refusal(status: int, headers: exchange.Headers, body: bytes) -> StrongroomError:
    """The error that an unsealed answer means. Anybody on the way may have written it."""
    problem = _problem(body)
    if status == HTTPStatus.BAD_REQUEST and problem.get("type") == ohttp.KEY_PROBLEM:
        return ChannelKeyMismatch("the worker behind this relay does not hold the key that was verified")
    if problem.get("code") == RequestReplayed.code:
        return RequestReplayed("the worker has seen this encapsulated request before")
    return exchange.refusal(status, headers, body)


def _problem(body: bytes) -> dict[str, object]:
    """A problem (RFC 9457), or nothing where there is none."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _inside(headers: exchange.Headers) -> list[tuple[bytes, bytes]]:
    """The fields that the worker needs."""
    lowered = [(name.lower(), value) for name, value in headers]
    return [field for field in lowered if field[0] in _INSIDE or field[0].startswith(_OUR_FIELDS)]
