"""A date in a policy, by which levels of vendors are judged: `2025-03-12`.

Knows: how it is written. Does not know: what is dated.
"""

from __future__ import annotations

from datetime import date

DATE_CHARACTERS = 10


def check_date(text: str) -> None:
    """Return if `text` is a day as ISO 8601 writes it. Raises `ValueError`."""
    if len(text) != DATE_CHARACTERS or date.fromisoformat(text).isoformat() != text:
        raise ValueError(f"{text[:20]!r} is not a date such as 2025-03-12")
