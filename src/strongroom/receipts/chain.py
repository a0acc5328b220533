"""The hash chain of a lease's verdict tokens: release, then each renewal; receipts repeat its head.

Knows: how a head follows from the one before. Does not know: tokens, or who keeps heads.
"""

from __future__ import annotations

from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, frame

TAG = "strongroom/chain/v1"


def chain_head(previous: Digest | None, token: str) -> Digest:
    """The head after `token`; `previous` is None for the first, which is the release's."""
    members = {"previous": previous, "token_sha256": token_digest(token)}
    return digest_bytes(frame(TAG, codec.encode(members)))


def token_digest(token: str) -> Digest:
    """SHA-256 of a token as it travels."""
    return digest_bytes(token.encode("ascii"))
