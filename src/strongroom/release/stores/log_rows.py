"""The leaves of the log and its newest checkpoints, in SQL.

Knows: the statements. Does not know: connections and commits (`sqlite`), or what a leaf or a checkpoint says.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from strongroom.release.stores.rows import Rows
from strongroom.release.stores.schema import Leaves
from strongroom.release.stores.statements import Statement

CHECKPOINT, COSIGNED = "checkpoint", "cosigned"

_LAST = Statement(sa.select(sa.func.max(Leaves.c.position)))
_RANGE = Statement(
    sa.select(Leaves.c.leaf)
    .where(Leaves.c.position >= sa.bindparam("start"), Leaves.c.position < sa.bindparam("end"))
    .order_by(Leaves.c.position)
)
_ADD = Statement(sa.insert(Leaves))


class LogRows(Rows):
    """The part of `Transaction` that is about the log."""

    def log_size(self) -> int:
        last = self._connection.execute(_LAST).scalar()
        return 0 if last is None else int(last) + 1

    def log_leaves(self, start: int, end: int) -> tuple[bytes, ...]:
        return tuple(self._connection.execute(_RANGE, {"start": start, "end": end}).scalars())

    def log_checkpoint(self) -> str | None:
        return self._meta(CHECKPOINT)

    def log_extend(self, leaves: Sequence[bytes], checkpoint: str) -> None:
        size = self.log_size()
        rows = [{"position": position, "leaf": leaf} for position, leaf in enumerate(leaves, size)]
        self._connection.execute(_ADD, rows)
        self._put_meta(CHECKPOINT, checkpoint)

    def log_cosigned(self) -> str | None:
        return self._meta(COSIGNED)

    def keep_cosigned(self, checkpoint: str) -> None:
        self._put_meta(COSIGNED, checkpoint)
