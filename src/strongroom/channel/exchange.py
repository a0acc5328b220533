"""The user's end of the channel, without any I/O: one request sealed, one answer opened and proved complete.

HTTP clients differ, so what they share is here: which headers may travel in the clear, what an unsealed answer means,
when an answer is complete. The adapters (`client`, `httpx_adapter`) only move bytes.

Safety: the channel key comes from verified evidence, never from the server's own key configuration. Headers travel in
the clear and version 1 has no place for them inside, so only a few harmless ones leave at all; credentials never do.
Method, path, status and headers are not protected: a sealed answer counts as complete by its receipt alone, an answer
that is not sealed never counts, and the text of such an answer is not shown to anybody.

Knows: the rules of an exchange. Does not know: sockets, HTTP libraries, whether a receipt is true (`on_exchange`
judges).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import dataclass

from strongroom.channel import ehbp
from strongroom.channel.completion import JSON, Splitter, media_type
from strongroom.channel.padding import BUCKET, pad_json
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    MalformedMessage,
    RequestReplayed,
    ServiceUnavailable,
    StrongroomError,
    WorkerBusy,
)

Headers = Sequence[tuple[bytes, bytes]]

MAX_REQUEST = 16 << 20
"""The longest request body, in bytes; it is held in memory and sealed as one frame, so that nobody can cut it."""
MAX_REFUSAL = 64 << 10
"""How much of an unsealed answer is read to learn why it is not sealed."""
UNTRUSTED_HEADER = "strongroom-untrusted"
"""Set to 1 on answers in the clear."""

_CLEAR_REQUEST_HEADERS = frozenset({b"host", b"accept", b"connection", b"content-type", b"user-agent"})
_DROPPED_ANSWER_HEADERS = frozenset(
    {b"content-length", b"content-encoding", b"transfer-encoding", b"set-cookie", ehbp.NONCE_HEADER.encode()}
)
_UNREAD = frozenset({429, 503})
"""Statuses of who did not take the request at all."""
_AWAY = frozenset({502, 504})
_REPLAYED = RequestReplayed.code


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its complete answer, as the user's end saw them.

    `request_sha256` is the SHA-256 of the request body as it was sealed (padding included), `response_sha256` that of
    the answer's committed body (see `completion`); `sealed_receipt` is what the worker put at its end, not yet
    verified.
    """

    method: str
    path: str
    status: int
    content_type: str
    request_sha256: bytes
    response_sha256: bytes
    sealed_receipt: bytes


@dataclass(frozen=True, slots=True)
class Channel:
    """What the user's end of a channel knows beforehand.

    `public` is the worker's X25519 key (32 bytes) from verified evidence. `on_exchange` is called when an answer is
    complete, before its end is handed on; what it raises ends the answer. `clear_paths` are those that may be asked for
    without a body, hence in the clear. `bucket` is the size in bytes to whose multiples JSON requests are padded.
    """

    public: bytes
    on_exchange: Callable[[Exchange], None]
    clear_paths: frozenset[str] = frozenset()
    bucket: int = BUCKET

    def clear_request(self, method: str, path: str, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The headers of a request without a body. Raises ChannelRefused unless its path may go in the clear."""
        folder = path[: path.rfind("/") + 1]  # a path that ends in a slash stands for all that is right in it
        if method not in {"GET", "HEAD"} or not {path, folder} & self.clear_paths:
            raise ChannelRefused(
                "a request without a body would travel, and be answered, in the clear",
                remedy="Ask with a body, or allow this path in the clear and trust nothing of its answer.",
                detail=f"{method} {path}",
            )
        return _outer(headers)

    def seal(self, method: str, path: str, headers: Headers, body: bytes) -> SealedRequest:
        """One request with a body, sealed."""
        return SealedRequest(self, method, path, headers, body)


class SealedRequest:
    """One request on its way: `headers` and `content` travel; `answer` judges what comes back.

    `target` is where it goes if not where it was meant to.
    """

    target: str | None = None

    def __init__(self, channel: Channel, method: str, path: str, headers: Headers, body: bytes) -> None:
        self._channel = channel
        self.method = method
        self._path = path
        body = _padded(body, header(headers, b"content-type"), channel.bucket)
        self._request_sha256 = hashlib.sha256(body).digest()
        self._sealer = ehbp.RequestSealer(channel.public)
        self.content = self._sealer.seal(body)
        self.headers = [
            *_outer(headers),
            (b"transfer-encoding", b"chunked"),
            (ehbp.ENCAPSULATION_HEADER.encode(), self._sealer.encapsulation.hex().encode()),
        ]

    def answer(self, status: int, headers: Headers) -> SealedAnswer | None:
        """The answer to be opened, or None for one that is not sealed: then read a little of it and raise `refusal`.

        Raises MalformedMessage for a nonce that is none, ChannelRefused for a success that cannot prove its end.
        """
        nonces = [value for name, value in headers if name.lower() == ehbp.NONCE_HEADER.encode()]
        if not nonces:
            return None
        if len(nonces) > 1:
            raise MalformedMessage(f"the header {ehbp.NONCE_HEADER} was given twice")
        nonce = ehbp.parse_hex32(nonces[0].decode("latin-1"), ehbp.NONCE_HEADER)
        content_type = header(headers, b"content-type")
        return SealedAnswer(
            opener=self._sealer.opener(nonce),
            splitter=Splitter(content_type) if succeeded(status) else None,
            complete=lambda sha256, sealed_receipt: self._channel.on_exchange(
                Exchange(
                    method=self.method,
                    path=self._path,
                    status=status,
                    content_type=media_type(content_type),
                    request_sha256=self._request_sha256,
                    response_sha256=sha256,
                    sealed_receipt=sealed_receipt,
                )
            ),
            status=status,
            headers=kept(headers),
        )

    def refusal(self, status: int, headers: Headers, body: bytes) -> StrongroomError:
        """See `refusal`."""
        return refusal(status, headers, body)


class SealedAnswer:
    """One answer as it arrives. `status` and `headers` are what is left of its own: hints, not facts."""

    ready = True

    def __init__(
        self,
        opener: ehbp.ResponseOpener,
        splitter: Splitter | None,
        complete: Callable[[bytes, bytes], None],
        status: int,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        """`splitter` is None for an error that the worker sealed: an error cut short is still an error."""
        self._opener = opener
        self._splitter = splitter
        self._complete = complete
        self.status = status
        self.headers = headers

    def feed(self, data: bytes) -> bytes:
        """The plaintext that may go on. Raises ChannelRefused and MalformedMessage for what the worker did not send."""
        plaintext = self._opener.feed(data)
        return plaintext if self._splitter is None else self._splitter.feed(plaintext)

    def finish(self) -> bytes:
        """The last plaintext, once `on_exchange` has seen the exchange. Raises StreamTruncated for a cut answer."""
        self._opener.finish()
        if self._splitter is None:
            return b""
        rest, completion = self._splitter.finish()
        self._complete(completion.response_sha256, completion.sealed_receipt)
        return rest


def refusal(status: int, headers: Headers, body: bytes) -> StrongroomError:
    """The error that an unsealed answer to a sealed request means. Anybody on the way may have written the answer."""
    if succeeded(status):
        return ChannelRefused(
            "a success that is not sealed: it does not come from the worker", detail=f"status {status}"
        )
    problem = _problem(header(headers, b"content-type"), body)
    if status == 422 and problem.get("type") == ehbp.KEY_CONFIG_PROBLEM:  # noqa: PLR2004 (SPEC.md, section 5.4.2)
        return ChannelKeyMismatch("the worker behind this address does not hold the key that was verified")
    if problem.get("code") == _REPLAYED:
        return RequestReplayed("the worker has seen this sealed request before")
    if status in _UNREAD:
        return WorkerBusy("the worker, or a proxy before it, takes no request now", detail=f"status {status}")
    if status in _AWAY:
        return ServiceUnavailable("the worker, or a proxy before it, cannot answer now", detail=f"status {status}")
    return ChannelRefused("the request was refused with an unsealed answer", detail=f"status {status}")


def collect(chunks: Iterable[bytes]) -> bytes:
    """A whole request body. Raises ChannelRefused beyond MAX_REQUEST."""
    body = bytearray()
    for chunk in chunks:
        _grow(body, chunk)
    return bytes(body)


async def collect_async(chunks: AsyncIterable[bytes]) -> bytes:
    """The same for an asynchronous body."""
    body = bytearray()
    async for chunk in chunks:
        _grow(body, chunk)
    return bytes(body)


def prefix(chunks: Iterable[bytes]) -> bytes:
    """As much of an unsealed answer as `refusal` needs."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) >= MAX_REFUSAL:
            break
    return bytes(body)


async def prefix_async(chunks: AsyncIterable[bytes]) -> bytes:
    """The same for an asynchronous answer."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) >= MAX_REFUSAL:
            break
    return bytes(body)


def _grow(body: bytearray, chunk: bytes) -> None:
    body += chunk
    if len(body) > MAX_REQUEST:
        raise ChannelRefused(f"a request of more than {MAX_REQUEST} bytes", remedy="Send less at once.")


def _outer(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that may travel in the clear. No compression on the way: it would fit neither frames nor padding."""
    kept = [(name, value) for name, value in headers if name.lower() in _CLEAR_REQUEST_HEADERS]
    return [*kept, (b"accept-encoding", b"identity")]


def kept(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that go on to whoever asked."""
    return [(name, value) for name, value in headers if name.lower() not in _DROPPED_ANSWER_HEADERS]


def header(headers: Headers, wanted: bytes) -> str:
    """The first value of a header (its name in lower case), or nothing."""
    return next((value.decode("latin-1") for name, value in headers if name.lower() == wanted), "")


def _padded(body: bytes, content_type: str, bucket: int) -> bytes:
    if media_type(content_type) != JSON:
        return body
    try:
        return pad_json(body, bucket)
    except MalformedMessage:
        return body  # not an object: the worker will say what it thinks of it


def succeeded(status: int) -> bool:
    """Whether a status says yes."""
    return status // 100 == 2  # noqa: PLR2004 (the class of successes)


def _problem(content_type: str, body: bytes) -> dict[str, object]:
    if media_type(content_type) != ehbp.PROBLEM_MEDIA_TYPE:
        return {}
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}
