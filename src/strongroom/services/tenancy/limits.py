"""How much each tenant may ask: requests and tokens in allowances that fill up again, and requests at once.

Knows: one worker's counts, in memory. Does not know: other workers of a fleet; each grants the whole allowance.
An allowance of N in a time T fills at N/T and holds N at most, so that 2N is the most that any T sees. Tokens are known when they were
made: a request is admitted while anything is left, and may take more than was left; then the next ones wait until the debt is paid.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from strongroom.errors import QuotaExceeded
from strongroom.services.tenancy.file import Tenant

MINUTE, DAY = 60, 86_400


class Allowance:
    """At most `amount` in `seconds`; `amount` None: no limit. `clock` gives seconds and never goes back."""

    def __init__(self, amount: int | None, seconds: int, clock: Callable[[], float]) -> None:
        self._amount, self._clock = amount, clock
        self._rate = 0.0 if amount is None else amount / seconds
        self._left, self._at = float(amount or 0), clock()

    def wait(self) -> float:
        """Seconds until at least one is there; 0 if it is."""
        if self._amount is None:
            return 0.0
        now = self._clock()
        self._left = min(float(self._amount), self._left + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1 - self._left) / self._rate)

    def take(self, count: int) -> None:
        """Take as many, also more than there are."""
        if self._amount is not None:
            self._left -= count


class Meter:
    """One tenant's use of this worker."""

    def __init__(self, tenant: Tenant, clock: Callable[[], float]) -> None:
        self._requests = Allowance(tenant.requests_per_minute, MINUTE, clock)
        self._tokens = (
            Allowance(tenant.tokens_per_minute, MINUTE, clock),
            Allowance(tenant.tokens_per_day, DAY, clock),
        )
        self._most, self._running = tenant.concurrent, 0

    def enter(self) -> None:
        """Admit one request; `leave` follows. Raises `QuotaExceeded`, with the seconds after which it is worth asking again."""
        if self._most is not None and self._running >= self._most:
            raise QuotaExceeded(f"{self._most} requests are under way, as many as this tenant may have", seconds=1)
        waits = (("requests", self._requests.wait()), *(("tokens", allowance.wait()) for allowance in self._tokens))
        what, longest = max(waits, key=lambda pair: pair[1])
        if longest > 0:
            raise QuotaExceeded(f"this tenant's allowance of {what} is used up", seconds=math.ceil(longest))
        self._requests.take(1)
        self._running += 1

    def leave(self) -> None:
        """A request has ended, however it ended."""
        self._running -= 1

    def spend(self, tokens: int) -> None:
        """Tokens that a request took, read and made."""
        for allowance in self._tokens:
            allowance.take(tokens)
