"""The one function that writes to the log of a worker.

Knows: that only events and fields of the table pass. Does not know: where lines go (Python's `logging`, under `strongroom`).
"""

from __future__ import annotations

import logging

from strongroom.observe.doubts import DOUBTS
from strongroom.observe.table import EVENTS, FIELDS

_LOG = logging.getLogger("strongroom")


def log(event: str, **fields: str | int) -> None:
    """Write one line, `event field=value …`. What is not on the list is not written at all (see `doubts`)."""
    known = EVENTS.get(event)
    if known is None:
        DOUBTS.note("log", "an event")
        return
    for name, value in fields.items():
        if name not in known.fields or not FIELDS[name][0](value):
            DOUBTS.note("log", f"a field of {event}")
            return
    _LOG.log(known.level, "%s%s", event, "".join(f" {name}={fields[name]}" for name in known.fields if name in fields))
