"""Nonces that were used, and answers that are kept a while, in SQL.

Knows: the statements. Does not know: connections and commits (`sqlite`), or what a nonce or an answer is for.
"""

from __future__ import annotations

import sqlalchemy as sa

from strongroom.records.digest import Digest
from strongroom.release.stores.port import StoredAnswer
from strongroom.release.stores.rows import Rows, insert_new
from strongroom.release.stores.schema import Answers, Nonces
from strongroom.release.stores.statements import Statement

FORGOTTEN = "forgotten"

_USED = Statement(
    sa.select(Nonces.c.expires).where(Nonces.c.scope == sa.bindparam("scope"), Nonces.c.nonce == sa.bindparam("nonce"))
)
_USE = insert_new(Nonces)
_FORGET = (
    Statement(sa.delete(Nonces).where(Nonces.c.expires <= sa.bindparam("now"))),
    Statement(sa.delete(Answers).where(Answers.c.until <= sa.bindparam("now"))),
)
_ANSWER = Statement(
    sa.select(Answers.c.released, Answers.c.body).where(
        Answers.c.request == sa.bindparam("request"), Answers.c.until > sa.bindparam("now")
    )
)
_KEEP_ANSWER = insert_new(Answers)


class NonceRows(Rows):
    """The part of `Transaction` that is about nonces and answers."""

    def is_consumed(self, scope: str, nonce: bytes, expires: int) -> bool:
        if expires <= self._forgotten():
            return True
        return self._connection.execute(_USED, {"scope": scope, "nonce": nonce}).first() is not None

    def consume(self, scope: str, nonce: bytes, expires: int) -> bool:
        if expires <= self._forgotten():
            return False
        return self._changed(_USE, {"scope": scope, "nonce": nonce, "expires": expires}) == 1

    def _forget_nonces(self, now: int) -> None:
        for statement in _FORGET:
            self._connection.execute(statement, {"now": now})
        if now > self._forgotten():
            self._put_meta(FORGOTTEN, str(now))

    def answer(self, request: Digest, now: int) -> StoredAnswer | None:
        row = self._connection.execute(_ANSWER, {"request": request, "now": now}).first()
        return None if row is None else StoredAnswer(bool(row.released), row.body)

    def keep_answer(self, request: Digest, answer: StoredAnswer, until: int) -> None:
        row = {"request": request, "released": answer.released, "body": answer.body, "until": until}
        self._connection.execute(_KEEP_ANSWER, row)

    def _forgotten(self) -> int:
        return int(self._meta(FORGOTTEN) or "0")
