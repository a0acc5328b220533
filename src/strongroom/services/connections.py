"""Connections of a server: nobody who only holds one keeps another out.

Knows: a peer that *owes* something: the rest of a request, head or body, or to read what was answered. It has
`REQUEST_SECONDS` for it; and where `MAX_CONNECTIONS` are open, the one that has owed longest makes room for a new one.
Whoever waits for an answer owes nothing and is never cut off; where all do, one more is told 503. Does not know: paths
and applications. Not covered: limits for each peer, since all may come through one TLS terminator; a flood so fast that
an honest request is pushed out while it is on its way.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from strongroom.services.chunks import Chunking

MAX_CONNECTIONS = 512
REQUEST_SECONDS = 60
"""For a whole request: 1 MiB at 17 kB/s."""


class Connection(H11Protocol):
    """One connection, with the time since which its peer owes something."""

    _deadline: asyncio.TimerHandle | None = None
    _since = 0.0

    def __init__(self, *told: Any, **named: Any) -> None:
        super().__init__(*told, **named)
        self.conn = Chunking(h11.SERVER)

    @property
    def owes(self) -> bool:
        """Whether the peer has not sent a whole request yet, or does not take its answer."""
        return self.conn.their_state in {h11.IDLE, h11.SEND_BODY} or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._give_time()
        while len(self.connections) > MAX_CONNECTIONS:
            if not self._make_room():
                self.limit_concurrency = 0  # uvicorn answers 503 to this one
                return

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._give_time()  # the first byte of a request
        super().data_received(data)
        if not self.owes:
            self._end_time()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.owes and self._deadline is None:
            self._give_time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._give_time()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.owes:
            self._end_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_time()
        super().connection_lost(exc)

    def _make_room(self) -> bool:
        """Cut off who has owed longest; False if nobody else owes anything."""
        owing = [peer for peer in self.connections if isinstance(peer, Connection) and peer.owes and peer is not self]
        if not owing:
            return False
        min(owing, key=lambda peer: peer._since)._cut_off()  # noqa: SLF001 (of its own class)
        return True

    def _give_time(self) -> None:
        self._end_time()
        self._since = self.loop.time()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._cut_off)

    def _end_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut_off(self) -> None:
        self._end_time()
        self.connections.discard(self)  # now: a lost connection is noticed only in the loop's next turn
        self.transport.abort()
