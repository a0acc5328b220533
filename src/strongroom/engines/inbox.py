"""A queue for one reader in one event loop, as cheap as one can be: it stands twice in the way of every token.

Knows: order, and waking its reader. Does not know: what passes. Not covered: several readers, other threads, bounds (`asyncio.Queue`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """What was put and not yet taken."""

    __slots__ = ("_items", "_waiting")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put_nowait(self, item: T) -> None:
        """Append `item`; never waits."""
        self._items.append(item)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> T:
        """The oldest item, once there is one."""
        if not self._items:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._items.popleft()
