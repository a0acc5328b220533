"""h11's connection, with a shorter way for one thing that it does: framing a piece of an answer that goes in chunks.

For speed: a streamed answer has a piece for each token. h11 asks its tables of states each time, and finds that a piece of a body
changes nothing; that was an eighth of what a gateway's own code costs for a token. Heads, ends, errors and all that is read go h11's way.

Knows: RFC 9112, section 7.1. Does not know: applications. Not covered: answers to HEAD, whose bodies uvicorn leaves empty.
"""

from __future__ import annotations

import h11

_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"


class Chunking(h11.Connection):
    """A server's connection; what it sends is byte for byte what h11 sends."""

    _chunked = False

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]  # h11 says it in overloads
        if self._chunked and type(event) is h11.Data and event.data and self.our_state is h11.SEND_BODY:
            return b"%x\r\n%b\r\n" % (len(event.data), event.data)
        said = super().send(event)
        if type(event) is h11.Response:
            self._chunked = said is not None and _CHUNKED in said.lower()
        return said
