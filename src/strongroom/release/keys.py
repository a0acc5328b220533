"""Owners' keys at a broker: key-encryption keys (KEKs) under one root key (`roots`), and data keys under them.

Knows: how keys are wrapped and what each wrapping is bound to. Does not know: where rows are kept, or who may ask. All
wrapping is AES-256-GCM with a random nonce of 96 bits (NIST SP 800-38D section 8.2.2: at most 2**32 wrappings under one
key). Bound as associated data: a KEK to its id and version, a data key to broker, key id, version and artifact id, so
that neither passes for another. Not covered: KEKs in an HSM, keys in locked memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag

from strongroom.crypto.hpke import ReleaseKey, seal_to
from strongroom.errors import Refused, ReleaseRefused, Unreadable
from strongroom.records import codec
from strongroom.records.digest import Digest, frame
from strongroom.records.release import Edition, WrappedKey
from strongroom.release.grants import DATA_KEY_BYTES
from strongroom.release.roots import KEY_BYTES, RootKey, seal, unseal
from strongroom.release.stores.port import KeyState, StoredKey
from strongroom.release.wire import ImportContext, KeyImport, WrapContext, WrapRequest

ARTIFACT_ID_SIZES = frozenset(range(1, 65))
KEK_TAG = "strongroom/kek/v1"


class KeyRing:
    """Makes and uses KEKs under `root`, for the broker with this fingerprint."""

    def __init__(self, root: RootKey, broker: Digest) -> None:
        self._root, self._broker = root, broker

    def create(self, key_id: str, policy_id: str, *, version: int = 1, now: int) -> StoredKey:
        """A new random KEK, wrapped."""
        return self._keep(secrets.token_bytes(KEY_BYTES), key_id, policy_id, version=version, now=now)

    def adopt(self, kek: bytes, key_id: str, policy_id: str, *, now: int) -> StoredKey:
        """A KEK that its owner made elsewhere (32 random bytes), wrapped. Raises `ReleaseRefused`."""
        if len(kek) != KEY_BYTES or len(set(kek)) == 1:
            raise ReleaseRefused(f"a key-encryption key has {KEY_BYTES} random bytes", detail="key.import")
        return self._keep(kek, key_id, policy_id, version=1, now=now)

    def check(self, key: StoredKey) -> None:
        """Return if `key` opens under this root. Raises `StoreUnavailable` or `TokenUnavailable`."""
        self._kek(key)

    def wrap(self, key: StoredKey, of: Edition, data_key: bytes) -> WrappedKey:
        """`data_key` (32 bytes) under `key`, of that artifact. Raises `ReleaseRefused` or `StoreUnavailable`."""
        sizes = {len(of.artifact_id), len(of.line)}
        if len(data_key) != DATA_KEY_BYTES or not sizes <= ARTIFACT_ID_SIZES or of.edition < 1:
            raise ReleaseRefused(f"a data key has {DATA_KEY_BYTES} bytes, an artifact id 1 to {max(ARTIFACT_ID_SIZES)}")
        ciphertext = seal(self._kek(key), data_key, self._data_key_context(key.id, key.version, of))
        return WrappedKey(key.id, key.version, self._broker, of, ciphertext)

    def unwrap(self, key: StoredKey, wrapped: WrappedKey) -> bytes:
        """The data key (32 bytes) in `wrapped`. Raises `ReleaseRefused` or `StoreUnavailable`."""
        context = self._data_key_context(wrapped.key_id, wrapped.key_version, wrapped.of)
        try:
            return unseal(self._kek(key), wrapped.ciphertext, context)
        except InvalidTag:
            raise ReleaseRefused("this wrapped key was changed or is another key's", detail="key.wrapped") from None

    def _keep(self, kek: bytes, key_id: str, policy_id: str, *, version: int, now: int) -> StoredKey:
        wrapped = self._root.wrap(kek, _kek_context(key_id, version, policy_id))
        return StoredKey(key_id, version, policy_id, wrapped, KeyState.ACTIVE, now)

    def _kek(self, key: StoredKey) -> bytes:
        return self._root.unwrap(key.wrapped, _kek_context(key.id, key.version, key.policy_id))

    def _data_key_context(self, key_id: str, version: int, of: Edition) -> bytes:
        members = {"broker": self._broker, "key_id": key_id, "key_version": version, "of": of}
        return _context(WrappedKey.TYPE, members)


def seal_to_broker(wrapping: bytes, data_key: bytes, context: WrapContext) -> WrapRequest:
    """The owner's side: `data_key` on its way to be wrapped, sealed to a broker's `wrapping` key (1216 bytes)."""
    encapsulation, ciphertext = seal_to(wrapping, data_key, codec.encode(context))
    return WrapRequest(context.of, encapsulation, ciphertext)


def seal_import(wrapping: bytes, kek: bytes, context: ImportContext) -> KeyImport:
    """The owner's side: a KEK made elsewhere on its way to the broker, sealed as a data key is."""
    encapsulation, ciphertext = seal_to(wrapping, kek, codec.encode(context))
    return KeyImport(context.policy_id, context.max_uses, encapsulation, ciphertext)


def open_at_broker(
    private: ReleaseKey, request: WrapRequest | KeyImport, context: WrapContext | ImportContext
) -> bytes:
    """The broker's side: the data key or KEK in `request`. Raises `ReleaseRefused`."""
    try:
        return private.open(request.encapsulation, request.ciphertext, codec.encode(context))
    except (Refused, Unreadable) as error:
        raise ReleaseRefused("this was not sealed for this key of this broker", detail=error.code) from None


def _kek_context(key_id: str, version: int, policy_id: str) -> bytes:
    """Whoever can write the database cannot put a key under another policy: it no longer opens."""
    return _context(KEK_TAG, {"key_id": key_id, "version": version, "policy_id": policy_id})


def _context(tag: str, members: Mapping[str, object]) -> bytes:
    return frame(tag, codec.encode(members))
