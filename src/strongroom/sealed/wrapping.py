"""Data keys sealed to recipients: whoever holds one of their private keys opens the artifact, without a broker.

Knows: recipients' public keys (MLKEM768-X25519). Does not know: brokers; `records.release.WrappedKey` is theirs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from strongroom.crypto.hpke import ReleaseKey, seal_to
from strongroom.errors import MalformedArtifact, MalformedMessage, SealBroken, UsageError
from strongroom.records.artifact import DataKeyContext, KeyWrap, RecipientKey, SealHeader
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition

Wrap: TypeAlias = Callable[[Edition, bytes], KeyWrap]
"""Takes which artifact it is and its data key (32 bytes); says how the key can be had again."""


def wrap_to(recipients: Sequence[bytes]) -> Wrap:
    """A wrap that seals the data key to each of these public keys (1216 bytes). Raises `UsageError` for none."""
    if not recipients:
        raise UsageError("a sealed artifact needs somebody who can open it", remedy="Name a recipient's public key.")

    def wrap(of: Edition, data_key: bytes) -> KeyWrap:
        info = DataKeyContext(of.artifact_id).to_bytes()
        boxes = tuple(RecipientKey(digest_bytes(key), *seal_to(key, data_key, info)) for key in recipients)
        return KeyWrap(broker=None, recipients=boxes)

    return wrap


def unwrap(header: SealHeader, key: ReleaseKey) -> bytes:
    """The data key, if `key` is a recipient's. Raises `SealBroken` if it is nobody's here or its box does not open."""
    name = digest_bytes(key.public)
    for box in header.keys.recipients:
        if box.recipient == name:
            try:
                return key.open(box.encapsulation, box.ciphertext, DataKeyContext(header.artifact_id).to_bytes())
            except MalformedMessage as error:
                raise MalformedArtifact(f"a recipient's key is malformed: {error.message}") from None
    raise SealBroken(
        "this key opens nothing here: the artifact is not sealed to it",
        remedy="Use a recipient's key, or ask the broker.",
    )
