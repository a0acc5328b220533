"""Padding: every sealed message has a length that says little about its content.

The lengths of streamed events tell tokens apart, and with them topics and words. An event of a server-sent stream
grows by a comment line, which every client ignores; a JSON object by spaces before its closing brace. Both to a
multiple of a bucket.

Safety: what still shows is the number of buckets, the number of events and their times.

Knows: the two formats' slack. Does not know: the channel, or what is inside.
"""

from __future__ import annotations

from strongroom.errors import MalformedMessage

BUCKET = 512
"""Bytes of plaintext: more than one token's event is long, so that events of tokens look alike."""

EVENT_END = b"\n\n"
_COMMENT_BYTES = len(b":\n")
_JSON_SPACE = b" \t\r\n"


def pad_event(event: bytes, bucket: int = BUCKET) -> bytes:
    """`event` (one or more whole server-sent events, ending in an empty line) made a multiple of `bucket` bytes long.

    Raises MalformedMessage for something that does not end like an event.
    """
    if not event.endswith(EVENT_END):
        raise MalformedMessage("a server-sent event that does not end in an empty line")
    missing = -len(event) % bucket
    if missing == 0:
        return event
    while missing < _COMMENT_BYTES:
        missing += bucket
    return event[:-1] + b":" + b" " * (missing - _COMMENT_BYTES) + EVENT_END


def pad_json(body: bytes, bucket: int = BUCKET) -> bytes:
    """`body` (a JSON object) made a multiple of `bucket` bytes long. Raises MalformedMessage for what is no object."""
    brace = closing_brace(body)
    return body[:brace] + b" " * (-len(body) % bucket) + body[brace:]


def closing_brace(body: bytes) -> int:
    """Where the last brace of a JSON object stands. Raises MalformedMessage for what does not look like an object."""
    brace = len(body.rstrip(_JSON_SPACE)) - 1
    if brace < 1 or body[brace : brace + 1] != b"}" or not body.lstrip(_JSON_SPACE).startswith(b"{"):
        raise MalformedMessage("not a JSON object")
    return brace
