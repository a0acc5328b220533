"""Binary HTTP: requests and answers as bytes that can be sealed whole (RFC 9292), without any I/O.

A message begins with a framing indicator (section 3.3): known length, where every part says its size, or indeterminate
length, where parts come in pieces and end with a zero. After control data and fields, content; after content, trailers;
after all of it, any number of zero bytes as padding. A message may be cut where only empty parts would follow (3.8).

Safety: an answer is read as it arrives, so a reader hands content on before it has seen the end: whoever carries the
message proves its end (`ohttp`: the final chunk), and `finish` refuses a message that stops within a part. Names and
values are held to HTTP/2's rules (RFC 9113, section 8.2.1), so that none can become another field in HTTP/1.1; pseudo
fields are refused. Heads are bounded here, content by whoever feeds it.

Knows: both framings, in both directions. Does not know: sealing, ASGI, which fields mean what.
Not covered: CONNECT and upgrades; trailers are read, judged and dropped; informational answers (1xx) likewise.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from strongroom.errors import MalformedMessage, StreamTruncated

T = TypeVar("T")
Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
Steps: TypeAlias = Generator[None, None, T]

KNOWN_REQUEST, KNOWN_RESPONSE, OPEN_REQUEST, OPEN_RESPONSE = range(4)
"""The four framing indicators."""

MAX_HEAD = 64 << 10
"""The most bytes of control data and fields together; of trailers again."""
MAX_FIELDS = 256
MAX_INFORMATIONAL = 8
"""The most informational answers before the answer."""
INFORMATIONAL = range(100, 200)

_NO_TRAILERS = b"\x00"
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}\Z")
_AUTHORITY = re.compile(rb"[!-~]{0,255}\Z")
_PATH = re.compile(rb"/[!-~]{0,4095}\Z")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")


@dataclass(frozen=True, slots=True)
class Request:
    """A request: `path` with its query, `fields` with lower-case names."""

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    fields: Fields
    content: bytes


def varint(number: int) -> bytes:
    """`number` as a variable-length integer in its shortest form (RFC 9000, section 16)."""
    for size, marks in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if number < 1 << (8 * size - 2):
            return (marks << (8 * size - 2) | number).to_bytes(size)
    raise MalformedMessage("a number too large for a variable-length integer")


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """The integer at `at` and where it ends, in whatever form; None while it is incomplete."""
    if at >= len(data):
        return None
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        return None
    return int.from_bytes(data[at : at + size]) & ((1 << (8 * size - 2)) - 1), at + size


def encode_request(request: Request, *, bucket: int = 1) -> bytes:
    """A request of known length, padded with zeros to a multiple of `bucket` bytes. Raises MalformedMessage."""
    _judge_control(request)
    control = (request.method, request.scheme, request.authority, request.path)
    message = (
        varint(KNOWN_REQUEST)
        + b"".join(map(_prefixed, control))
        + _prefixed(_fields(request.fields))
        + _prefixed(request.content)
        + _NO_TRAILERS
    )
    return message + bytes(-len(message) % bucket)


def decode_request(data: bytes) -> Request:
    """A whole request, of either framing; a scheme left empty, as some senders do, is read as "http".

    Raises MalformedMessage, StreamTruncated for one that stops within a part.
    """
    reader = _RequestReader()
    content = reader.feed(data)
    reader.finish()
    method, scheme, authority, path = reader.control
    request = Request(method, scheme or b"http", authority, path, reader.fields, content)
    _judge_control(request)
    return request


def encode_response(status: int, fields: Iterable[tuple[bytes, bytes]], content: bytes, *, bucket: int = 1) -> bytes:
    """An answer of known length, padded with zeros to a multiple of `bucket` bytes. Raises MalformedMessage."""
    message = varint(KNOWN_RESPONSE) + varint(_final(status)) + _prefixed(_fields(fields)) + _prefixed(content)
    message += _NO_TRAILERS
    return message + bytes(-len(message) % bucket)


def response_head(status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """How an answer of indeterminate length begins; pieces of `content_piece` follow, then RESPONSE_END."""
    return varint(OPEN_RESPONSE) + varint(_final(status)) + _fields(fields) + b"\x00"


def content_piece(data: bytes) -> bytes:
    """A piece of content of indeterminate length; nothing for nothing, since a zero would end it."""
    return _prefixed(data) if data else b""


RESPONSE_END = b"\x00\x00"
"""The end of content of indeterminate length, and no trailers."""


class _Reader:
    """Reads a message as it arrives: `_parts` runs until it needs more than there is, and goes on with the next `feed`."""

    def __init__(self) -> None:
        self.fields: Fields = ()
        self._buffer, self._out = bytearray(), bytearray()
        self._ended = False
        self._head_left = MAX_HEAD
        self._steps = self._parts()

    def feed(self, data: bytes) -> bytes:
        """The content that `data` completes. Raises MalformedMessage; afterwards the reader is of no more use."""
        self._buffer += data
        next(self._steps, None)
        content = bytes(self._out)
        self._out.clear()
        return content

    def finish(self) -> None:
        """The message has ended. Raises StreamTruncated if that was within a part, MalformedMessage."""
        self._ended = True
        for _ in self._steps:
            raise StreamTruncated("a message that ends within one of its parts")

    def _parts(self) -> Steps[None]:
        raise NotImplementedError

    def _body(self, *, known: bool) -> Steps[None]:
        """Content, trailers and padding."""
        if known:
            yield from self._content((yield from self._number(may_lack=True)))
        else:
            length = yield from self._number(may_lack=True)
            while length:
                yield from self._content(length)
                length = yield from self._number()
        self._head_left = MAX_HEAD
        yield from self._section(known=known)
        while not self._ended or self._buffer:
            if any(self._buffer):
                raise MalformedMessage("padding that is not zero")
            self._buffer.clear()
            yield

    def _content(self, length: int) -> Steps[None]:
        while length:
            part = bytes(self._buffer[:length])
            self._out += part
            del self._buffer[: len(part)]
            length -= len(part)
            if length:
                yield

    def _section(self, *, known: bool) -> Steps[Fields]:
        """One section of fields; an empty one may lack."""
        fields: list[tuple[bytes, bytes]] = []
        length = yield from self._number(may_lack=True)
        until = self._head_left - length if known else 0
        if known and until < 0:
            raise MalformedMessage(f"fields of more than {MAX_HEAD} bytes")
        while self._head_left > until if known else length:
            if len(fields) == MAX_FIELDS:
                raise MalformedMessage(f"more than {MAX_FIELDS} fields")
            size = (yield from self._head_number()) if known else length
            name = yield from self._string(size)
            value = yield from self._string((yield from self._head_number()))
            fields.append(_judged(name, value))
            if not known:
                length = yield from self._head_number()
        if known and self._head_left != until:
            raise MalformedMessage("a field that is longer than its section")
        return tuple(fields)

    def _string(self, length: int) -> Steps[bytes]:
        """`length` bytes of the head."""
        self._charge(length)
        while len(self._buffer) < length:
            yield
        part = bytes(self._buffer[:length])
        del self._buffer[:length]
        return part

    def _head_number(self) -> Steps[int]:
        """An integer that counts as part of the head."""
        while (found := read_varint(self._buffer, 0)) is None:
            yield
        self._charge(found[1])
        del self._buffer[: found[1]]
        return found[0]

    def _number(self, *, may_lack: bool = False) -> Steps[int]:
        """An integer; 0 where the message may end and does (section 3.8)."""
        while (found := read_varint(self._buffer, 0)) is None:
            if may_lack and self._ended and not self._buffer:
                return 0
            yield
        del self._buffer[: found[1]]
        return found[0]

    def _charge(self, length: int) -> None:
        self._head_left -= length
        if self._head_left < 0:
            raise MalformedMessage(f"control data and fields of more than {MAX_HEAD} bytes")


class _RequestReader(_Reader):
    def __init__(self) -> None:
        super().__init__()
        self.control: list[bytes] = []

    def _parts(self) -> Steps[None]:
        framing = yield from self._number()
        if framing not in {KNOWN_REQUEST, OPEN_REQUEST}:
            raise MalformedMessage("not a binary HTTP request")
        for _ in range(4):
            self.control.append((yield from self._string((yield from self._head_number()))))
        self.fields = yield from self._section(known=framing == KNOWN_REQUEST)
        yield from self._body(known=framing == KNOWN_REQUEST)


class ResponseReader(_Reader):
    """Reads an answer of either framing. `status` (0 until then) and `fields` are there once `feed` has seen them."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 0

    def _parts(self) -> Steps[None]:
        framing = yield from self._number()
        if framing not in {KNOWN_RESPONSE, OPEN_RESPONSE}:
            raise MalformedMessage("not a binary HTTP answer")
        known = framing == KNOWN_RESPONSE
        for _ in range(MAX_INFORMATIONAL + 1):
            status = yield from self._head_number()
            fields = yield from self._section(known=known)
            if status not in INFORMATIONAL:
                break
        self.status, self.fields = _final(status), fields
        yield from self._body(known=known)


def _final(status: int) -> int:
    if not 200 <= status <= 599:  # noqa: PLR2004 (RFC 9292, section 3.5)
        raise MalformedMessage(f"an answer with the status {status}")
    return status


def _judged(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if not _NAME.match(name) or _BAD_VALUE.search(value):
        raise MalformedMessage("a field whose name or value HTTP does not allow")
    return name, value


def _fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(_prefixed(part) for field in fields for part in _judged(*field))


def _judge_control(request: Request) -> None:
    if not (
        _METHOD.match(request.method)
        and request.scheme in {b"http", b"https"}
        and _AUTHORITY.match(request.authority)
        and _PATH.match(request.path)
    ):
        raise MalformedMessage("a request whose method, scheme, authority or path HTTP does not allow")


def _prefixed(data: bytes) -> bytes:
    return varint(len(data)) + data
