"""The root key of a broker, under which it keeps its key-encryption keys: a port, and the root in a file.

Knows: AES-256-GCM with a random nonce of 96 bits (NIST SP 800-38D section 8.2.2: at most 2**32 wrappings under one key); its
ciphertexts are nonce, ciphertext and tag, whoever keeps the key. Does not know: what is wrapped. A root in a token is
`token_root`. Not covered: changing a broker's root.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.errors import StoreUnavailable

KEY_BYTES = 32
NONCE_BYTES, TAG_BYTES = 12, 16


class RootKey(Protocol):
    """Wraps and unwraps short secrets, each bound to a `context` that travels apart. May be used by many threads."""

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """`secret`, openable only under this key and `context`. Raises `TokenUnavailable`."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The secret. Raises `StoreUnavailable` where it does not open under this key, `TokenUnavailable`."""
        ...

    def close(self) -> None:
        """End what is open; nothing can be wrapped or unwrapped afterwards."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class FileRoot:
    """A root whose 32 bytes are in a file of the broker's, and in its memory."""

    key: bytes

    @classmethod
    def generate(cls) -> FileRoot:
        return cls(secrets.token_bytes(KEY_BYTES))

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        return seal(self.key, secret, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        try:
            return unseal(self.key, wrapped, context)
        except InvalidTag:
            raise does_not_open() from None

    def close(self) -> None:
        """Nothing is open."""

    def __repr__(self) -> str:
        return "FileRoot()"


def seal(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Nonce, ciphertext and tag."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Raises `InvalidTag`, also where there are too few bytes to hold a nonce and a tag."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)


def does_not_open() -> StoreUnavailable:
    """What every root says of a ciphertext that is not its own."""
    return StoreUnavailable(
        "a stored key does not open under this broker's root key",
        remedy="Restore the database and the keys of the same broker together, and name the root that belongs to them.",
    )
