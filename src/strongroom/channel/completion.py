"""The proof that an answer is complete: its receipt, at its very end, inside the seal.

A stream of server-sent events ends in a comment line, `: strongroom-receipt BASE64URL`, which stock clients ignore; a
JSON object has it as its last member, `"strongroom":"BASE64URL"`. Either may be followed by padding (`padding`). What
stands before is the committed body: the receipt speaks of its SHA-256. For JSON that is the body as if the member
(and the padding after it) had never been put in.

Safety: an end without the trailer is no end (StreamTruncated). Clients that stop reading at an API's own last event
(`data: [DONE]`, `response.completed`, `message_stop`) would never look behind it, so a `Splitter` holds that event back
until the proof is there. Whether the receipt is true is for its verifier.

Knows: both formats, in both directions, at once and in pieces. Does not know: what a receipt says.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from strongroom.channel.padding import closing_brace
from strongroom.errors import ChannelRefused, MalformedMessage, StreamTruncated

EVENT_STREAM = "text/event-stream"
JSON = "application/json"

MAX_TRAILER = 64 << 10
"""The longest receipt with its padding, in bytes."""
MAX_LINE = 16 << 20
"""The longest line of a stream of events, in bytes."""

_SSE_TRAILER = re.compile(rb"^: strongroom-receipt ([A-Za-z0-9_-]+)\n(?:: *\n)?\n\Z", re.MULTILINE)
_SSE_ENDING = re.compile(
    rb"^(?:data: ?\[DONE\]|event: ?(?:response\.(?:completed|incomplete)|message_stop)$|: strongroom-receipt )",
    re.MULTILINE,
)
"""How a stream's last event begins: in OpenAI's chat completions, in its responses, in Anthropic's messages."""
_JSON_TRAILER = re.compile(rb'(,?)"strongroom":"([A-Za-z0-9_-]+)" *(\}[ \t\r\n]*)\Z')


@dataclass(frozen=True, slots=True)
class Completion:
    """How an answer ended: the SHA-256 (32 bytes) of its committed body, and its sealed receipt."""

    response_sha256: bytes
    sealed_receipt: bytes


def append_to_json(body: bytes, sealed_receipt: bytes) -> bytes:
    """`body` (a JSON object) with the receipt as its last member. Raises MalformedMessage for what is no object."""
    brace = closing_brace(body)
    comma = b"" if body[:brace].strip() == b"{" else b","
    member = comma + b'"strongroom":"' + _encode(sealed_receipt) + b'"'
    return body[:brace] + member + body[brace:]


def sse_trailer(sealed_receipt: bytes) -> bytes:
    """The comment that ends a stream of events."""
    return b": strongroom-receipt " + _encode(sealed_receipt) + b"\n\n"


def split(content_type: str, body: bytes) -> tuple[bytes, bytes | None]:
    """The committed body and the sealed receipt of a whole answer; where there is no receipt, the body and None.

    Raises ChannelRefused for a content type that cannot carry one, MalformedMessage for a receipt that is not
    base64url.
    """
    found = _split_json(body) if _kind(content_type) == JSON else _split_sse(body)
    return (body, None) if found is None else found


def media_type(content_type: str) -> str:
    """The type alone, in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


class Splitter:
    """Looks for the end of an answer that arrives in pieces, and hashes its committed body meanwhile.

    `feed` gives everything that may go on; `finish` judges the end and gives the rest. Nothing is taken out:
    downstream gets the trailer too.
    """

    def __init__(self, content_type: str) -> None:
        """Raises ChannelRefused for a content type that cannot carry a receipt."""
        self._kind = _kind(content_type)
        self._held = bytearray()
        self._hash = hashlib.sha256()

    def feed(self, piece: bytes) -> bytes:
        """What of the answer so far may go on. Raises MalformedMessage if a line or an ending is too long."""
        searched = len(self._held)
        self._held += piece
        cut = self._json_cut() if self._kind == JSON else self._sse_cut(searched)
        released = bytes(self._held[:cut])
        del self._held[:cut]
        self._hash.update(released)
        return released

    def finish(self) -> tuple[bytes, Completion]:
        """The rest of the answer, and its completion. Raises StreamTruncated if it ends without its receipt."""
        rest = bytes(self._held)
        committed, sealed_receipt = split(self._kind, rest)
        if sealed_receipt is None:
            raise StreamTruncated("the answer ended without the proof that it is complete")
        self._hash.update(committed)
        return rest, Completion(self._hash.digest(), sealed_receipt)

    def _json_cut(self) -> int:
        """All but as much as the trailer can be long."""
        return max(0, len(self._held) - MAX_TRAILER)

    def _sse_cut(self, searched: int) -> int:
        """All whole lines before the ending. What is held always begins a line; an ending, once begun, stays held."""
        ending = _SSE_ENDING.match(self._held)
        if ending is None:
            lines = self._held.rfind(b"\n", searched) + 1
            ending = _SSE_ENDING.search(self._held, 0, lines)
            cut = lines if ending is None else ending.start()
        else:
            cut = 0
        repeats = ending is None or ending[0].startswith(b"event")  # such an event holds the whole answer once more
        if len(self._held) - cut > (MAX_LINE if repeats else MAX_TRAILER):
            raise MalformedMessage("a line or an ending longer than any this channel carries")
        return cut


def _kind(content_type: str) -> str:
    kind = media_type(content_type)
    if kind not in {JSON, EVENT_STREAM}:
        raise ChannelRefused("an answer of a type that cannot prove its end", detail=kind[:80])
    return kind


def _split_json(body: bytes) -> tuple[bytes, bytes] | None:
    found = _JSON_TRAILER.search(body, max(0, len(body) - MAX_TRAILER))
    if found is None:
        return None
    return body[: found.start()] + found[3], _decode(found[2])


def _split_sse(body: bytes) -> tuple[bytes, bytes] | None:
    found = _SSE_TRAILER.search(body, max(0, body.rfind(b": strongroom-receipt ")))
    if found is None:
        return None
    return body[: found.start()], _decode(found[1])


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise MalformedMessage("a receipt that is not base64url") from error
    if _encode(data) != text:
        raise MalformedMessage("a receipt that is not canonical base64url")
    return data
