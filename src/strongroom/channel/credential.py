"""Who asks: what an API key looks like, and where a credential travels.

    key     = "strongroom-key-" base64url(32 random bytes)
    digest  = "sha256:" hex(SHA-256 of the 32 bytes)              all that a worker's file of tenants holds

A credential travels inside the seal: as the field `authorization` (Bearer) or `x-api-key` where fields are sealed too, otherwise as
the member `strongroom_key` of the request's JSON. The same holds for a user's own cache secret.

Safety: a key is 32 random bytes, so its plain SHA-256 tells nothing. Whoever reads a key in the clear can use it.

Knows: the names and the form. Does not know: tenants, tokens' contents (`services.tenancy`).
"""

from __future__ import annotations

import secrets

from strongroom.errors import MalformedRecord
from strongroom.records.codec import b64decode, b64encode
from strongroom.records.digest import Digest, digest_bytes

MEMBER = "strongroom_key"
CACHE_MEMBER, CACHE_FIELD = "strongroom_cache_secret", "strongroom-cache-secret"
PLACEHOLDER = "sealed-channel"
"""What clients that insist on a key are given where there is none; it is nobody's."""
KEY_PREFIX = "strongroom-key-"
KEY_BYTES = 32
MAX_CREDENTIAL = 16 * 1024
"""Characters of the longest credential that is looked at."""


def new_key() -> str:
    """A fresh API key."""
    return KEY_PREFIX + b64encode(secrets.token_bytes(KEY_BYTES))


def key_digest(text: str) -> Digest | None:
    """The digest of an API key; None for what is not the form of one."""
    if not text.startswith(KEY_PREFIX) or len(text) > MAX_CREDENTIAL:
        return None
    try:
        key = b64decode(text.removeprefix(KEY_PREFIX))
    except MalformedRecord:
        return None
    return digest_bytes(key) if len(key) == KEY_BYTES else None
