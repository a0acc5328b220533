"""The user's end of version 2, without any I/O; and which version a verified worker is spoken to in.

With version 2 everything is sealed: requests without a body too, method, path and query, status, and all headers, credentials
among them. A worker whose verified keyset lists version 2 is spoken to in nothing else, so nobody on the way can make a
client fall back: an answer as of a server that knows no such path is ChannelStripped.

Safety: an answer to a request with a body is complete by its final frame and by its receipt, one to a request without a body
by its final frame. Heads are judged before a byte of their body goes on.

Knows: the rules of an exchange in version 2. Does not know: sockets, HTTP libraries, whether a receipt is true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from strongroom.channel import ehbp, exchange, heads, v2
from strongroom.channel.completion import Splitter, media_type
from strongroom.channel.exchange import Channel, Exchange, Headers, SealedRequest
from strongroom.channel.padding import BUCKET
from strongroom.errors import ChannelRefused, ChannelStripped, MalformedMessage, StrongroomError
from strongroom.records import codec
from strongroom.records.worker import Keyset

_UNKNOWN_PATH = frozenset({404, 405, 501})


def peer_of(keyset: Keyset) -> v2.Peer | None:
    """Whom to speak version 2 to, or None where a verified keyset lists version 1 alone.

    Raises ChannelRefused for a keyset that lists neither.
    """
    if v2.VERSION in keyset.channels and keyset.channel_v2 is not None:
        return v2.Peer(keyset.channel_v2, keyset.digest)
    if ehbp.VERSION not in keyset.channels:
        raise ChannelRefused(
            "the worker speaks no version of the sealed channel that this client knows", remedy="Update this client."
        )
    return None


@dataclass(frozen=True, slots=True)
class ChannelV2:
    """What the user's end of version 2 knows beforehand: as `exchange.Channel`, with `peer` from verified evidence."""

    peer: v2.Peer
    on_exchange: Callable[[Exchange], None]
    bucket: int = BUCKET

    def seal(self, method: str, url: tuple[str, str], headers: Headers, body: bytes) -> SealedRequestV2:
        """One request, with or without a body, sealed. `url`: its path, and its path and query as they were sent."""
        return SealedRequestV2(self, method, url, headers, body)


class SealedRequestV2:
    """One request on its way: `method`, `target`, `headers` and `content` travel; `answer` judges what comes back."""

    method, target = v2.METHOD, v2.PATH

    def __init__(self, channel: ChannelV2, method: str, url: tuple[str, str], headers: Headers, body: bytes) -> None:
        self._channel = channel
        self._asked = method, url[0]
        self._body = body
        try:
            head = heads.RequestHead(method, url[1], heads.inner(headers))
        except ValueError as error:
            raise ChannelRefused(
                "a request whose method, path or headers cannot be sealed", remedy="Leave out what is no plain HTTP."
            ) from error
        self._sealer = v2.RequestSealer.to(channel.peer)
        self.content = self._sealer.seal(codec.encode(head), body, bucket=channel.bucket)
        self.headers = [
            *((name, value) for name, value in headers if name.lower() in {b"host", b"connection"}),
            (b"accept-encoding", b"identity"),
            (b"content-type", v2.MEDIA_TYPE.encode()),
            (b"content-length", str(len(self.content)).encode()),
            (v2.KEYSET_HEADER.encode(), channel.peer.keyset.encode()),
        ]

    def answer(self, status: int, headers: Headers) -> SealedAnswerV2 | None:
        """The answer to be opened, or None for one that is not sealed: then read a little of it and raise `refusal`."""
        kind = exchange.header(headers, b"content-type")
        if status != 200 or media_type(kind) != v2.MEDIA_TYPE:  # noqa: PLR2004 (the real status is inside)
            return None
        return SealedAnswerV2(self._sealer.opener(), self._judge)

    def refusal(self, status: int, headers: Headers, body: bytes) -> StrongroomError:
        """The error that an unsealed answer means. Anybody on the way may have written it."""
        stripped = any(name.lower() == ehbp.NONCE_HEADER.encode() for name, _ in headers)
        if stripped or status in _UNKNOWN_PATH:
            return ChannelStripped(
                "the worker speaks version 2 of the sealed channel, and somebody on the way does not let it",
                detail=f"status {status}",
            )
        return exchange.refusal(status, headers, body)

    def _judge(self, head: heads.AnswerHead) -> tuple[Splitter | None, Callable[[bytes, bytes], None]]:
        """What proves the end of an answer with this head, and who is told of it."""
        kind = exchange.header(heads.outer(head.headers), b"content-type")
        method, path = self._asked

        def complete(sha256: bytes, sealed_receipt: bytes) -> None:
            self._channel.on_exchange(
                Exchange(
                    method=method,
                    path=path,
                    status=head.status,
                    content_type=media_type(kind),
                    request_sha256=hashlib.sha256(self._body).digest(),
                    response_sha256=sha256,
                    sealed_receipt=sealed_receipt,
                )
            )

        receipted = bool(self._body) and exchange.succeeded(head.status)
        return Splitter(kind) if receipted else None, complete


class SealedAnswerV2:
    """One answer as it arrives; `status` and `headers` are the worker's own, and there once `ready` is."""

    def __init__(
        self,
        opener: v2.AnswerOpener,
        judge: Callable[[heads.AnswerHead], tuple[Splitter | None, Callable[[bytes, bytes], None]]],
    ) -> None:
        self._opener = opener
        self._judge = judge
        self._splitter: Splitter | None = None
        self._complete: Callable[[bytes, bytes], None] | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    @property
    def ready(self) -> bool:
        """Whether the head has come."""
        return self.status != 0

    def feed(self, data: bytes) -> bytes:
        """The plaintext that may go on. Raises ChannelRefused and MalformedMessage for what the worker did not send."""
        plaintext = self._opener.feed(data)
        if not self.ready and self._opener.head is not None:
            head = heads.decode_answer(self._opener.head)
            self._splitter, self._complete = self._judge(head)
            self.status, self.headers = head.status, exchange.kept(heads.outer(head.headers))
        return plaintext if self._splitter is None else self._splitter.feed(plaintext)

    def finish(self) -> bytes:
        """The last plaintext, once `on_exchange` has seen the exchange. Raises StreamTruncated for a cut answer."""
        self._opener.finish()
        if not self.ready:
            raise MalformedMessage("a sealed answer without a head")
        if self._splitter is None or self._complete is None:
            return b""
        rest, completion = self._splitter.finish()
        self._complete(completion.response_sha256, completion.sealed_receipt)
        return rest


@dataclass(frozen=True, slots=True)
class Speaker:
    """The version that one worker is spoken to in: `second` where its verified keyset lists version 2, else `first`."""

    first: Channel
    second: ChannelV2 | None

    @classmethod
    def to(
        cls,
        public: bytes,
        peer: v2.Peer | None,
        on_exchange: Callable[[Exchange], None],
        clear_paths: frozenset[str] = frozenset(),
    ) -> Speaker:
        """`public` and `clear_paths` as in `exchange.Channel`, `peer` as in `ChannelV2`; None for version 1."""
        return cls(Channel(public, on_exchange, clear_paths), None if peer is None else ChannelV2(peer, on_exchange))

    def seal(
        self, method: str, url: tuple[str, str], headers: Headers, body: bytes
    ) -> SealedRequest | SealedRequestV2 | None:
        """One request sealed; None if version 1 cannot seal it because it has no body: then `first.clear_request` judges it."""
        if self.second is not None:
            return self.second.seal(method, url, headers, body)
        return self.first.seal(method, url[0], headers, body) if body else None
