"""The heads of a request and an answer that travel inside the seal of version 2: what HTTP would say in the clear.

Encoded as strict canonical JSON (`records.codec`), read with every doubt refused: what stands in a head becomes a request
inside the worker, so it must not be able to say more than an honest HTTP message could.

Knows: method, target, status, headers, and which headers belong to one hop or to the wire. Does not know: sealing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strongroom.channel.ehbp import ENCAPSULATION_HEADER, NONCE_HEADER
from strongroom.errors import MalformedMessage, MalformedRecord
from strongroom.records import codec

Headers = Sequence[tuple[bytes, bytes]]

MAX_HEADERS = 100
_METHOD = re.compile(r"[A-Z]{1,16}")
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]{0,8191}")
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,256}")
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")

UNSEALED = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "content-length", "expect", "host", "accept-encoding", "content-encoding"),
        *(ENCAPSULATION_HEADER, NONCE_HEADER, "strongroom-keyset"),
    }
)
"""Headers of one hop, of the server's name or of the wire itself: they never go inside."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a sealed request asks for: `target` is path and query, `headers` pairs of lower-case name and value."""

    method: str
    target: str
    headers: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if _METHOD.fullmatch(self.method) is None:
            raise ValueError("not a method")
        if _TARGET.fullmatch(self.target) is None:
            raise ValueError("not the path of a request")
        _check(self.headers)


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """How a worker answered: a final status, and headers as in a request."""

    status: int
    headers: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:  # noqa: PLR2004 (final statuses of HTTP)
            raise ValueError("not a final status")
        _check(self.headers)


def decode_request(head: bytes) -> RequestHead:
    """Raises MalformedMessage for whatever no honest client sends."""
    try:
        return codec.decode(RequestHead, head)
    except MalformedRecord as error:
        raise MalformedMessage("the head of a sealed request is malformed") from error


def decode_answer(head: bytes) -> AnswerHead:
    """Raises MalformedMessage for whatever no honest worker sends."""
    try:
        return codec.decode(AnswerHead, head)
    except MalformedRecord as error:
        raise MalformedMessage("the head of a sealed answer is malformed") from error


def inner(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Those of an HTTP message's headers that go inside, names in lower case."""
    pairs = ((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")) for name, value in headers)
    return tuple((name, value) for name, value in pairs if name not in UNSEALED)


def outer(headers: tuple[tuple[str, ...], ...]) -> list[tuple[bytes, bytes]]:
    """The headers of a head as those of an HTTP message."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _check(headers: tuple[tuple[str, ...], ...]) -> None:
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"{len(headers)} headers where {MAX_HEADERS} are allowed")
    for header in headers:
        name, value = header if len(header) == 2 else ("", "")  # noqa: PLR2004 (a pair)
        if _NAME.fullmatch(name) is None or name in UNSEALED or _VALUE.fullmatch(value) is None:
            raise ValueError("not a header that goes inside")
