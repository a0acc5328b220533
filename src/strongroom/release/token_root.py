"""The root key in a PKCS #11 token: an HSM, SoftHSM. It is made there, stays there, and cannot be taken out.

Specification: PKCS #11 v2.40, CKM_AES_GCM (mechanisms, section 2.12.3). Needs the extra `pkcs11`. Knows: how a key must be kept to
count as a root: AES of 256 bits, made inside, sensitive, never extractable. Does not know: what is wrapped. What one session says to
its token is said one call at a time. Safety: nonces are made here and not by the token; a token reports a wrong tag in its own way,
so every failed decryption that is not a lost token's is one that does not open. Not covered: logging in again to a token that was
taken out and put back (start the broker anew).
"""

from __future__ import annotations

import secrets
import threading
from typing import Any

from strongroom.crypto.pkcs11token import AskPin, find_objects, find_token, read_pin, token_errors
from strongroom.crypto.pkcs11uri import TokenUri
from strongroom.errors import TokenUnavailable, UsageError
from strongroom.release.roots import KEY_BYTES, NONCE_BYTES, TAG_BYTES, does_not_open


class TokenRoot:
    """The root that `uri` names; where `make` is true and there is none, it is made.

    Raises `TokenUnavailable` where the token or the key is missing, `UsageError` for a key that is no root, what `read_pin` raises.
    """

    def __init__(self, uri: TokenUri, ask: AskPin, *, make: bool) -> None:
        with token_errors():
            token = find_token(uri)
        pin = read_pin(uri.pin, ask)
        with token_errors():
            self._session = token.open(rw=make, user_pin=pin)
        self._turn = threading.Lock()
        try:
            with token_errors():
                self._key: Any = _find(self._session, uri) or _make(self._session, uri, make=make)
                _check(self._key)
        except BaseException:
            self.close()
            raise

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        with self._turn, token_errors():
            return nonce + bytes(self._key.encrypt(secret, **_gcm(nonce, context)))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        from pkcs11 import exceptions

        if len(wrapped) < NONCE_BYTES + TAG_BYTES:
            raise does_not_open()
        nonce, ciphertext = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        wrong = (
            exceptions.EncryptedDataInvalid,
            exceptions.EncryptedDataLenRange,
            exceptions.FunctionFailed,
            exceptions.GeneralError,
        )
        with self._turn, token_errors():
            try:
                return bytes(self._key.decrypt(ciphertext, **_gcm(nonce, context)))
            except wrong:
                pass
        raise does_not_open()

    def close(self) -> None:
        with self._turn, token_errors():
            self._session.close()


def _gcm(nonce: bytes, context: bytes) -> dict[str, Any]:
    import pkcs11

    return {
        "mechanism": pkcs11.Mechanism.AES_GCM,
        "mechanism_param": pkcs11.GCMParams(nonce, context, TAG_BYTES * 8),
    }


def _find(session: Any, uri: TokenUri) -> Any:
    import pkcs11

    found = find_objects(session, pkcs11.ObjectClass.SECRET_KEY, uri)
    if len(found) > 1:
        raise TokenUnavailable(
            f"{len(found)} secret keys have the label and id of the address",
            remedy="Name the broker's root by a label and an id that no other key has.",
        )
    return found[0] if found else None


def _make(session: Any, uri: TokenUri, *, make: bool) -> Any:
    import pkcs11

    if not make:
        raise TokenUnavailable(
            "this broker's root key is not in the token",
            remedy="Name the token and the key with which this broker was started first; a new root would open nothing.",
        )
    return session.generate_key(
        pkcs11.KeyType.AES,
        KEY_BYTES * 8,
        id=uri.id,
        label=uri.label,
        store=True,
        capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
        template={
            pkcs11.Attribute.PRIVATE: True,
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.EXTRACTABLE: False,
        },
    )


def _check(key: Any) -> None:
    """Whether a token's word is that this key is AES of 256 bits and was never outside."""
    import pkcs11

    attribute = pkcs11.Attribute
    wanted = {
        attribute.KEY_TYPE: pkcs11.KeyType.AES,
        attribute.VALUE_LEN: KEY_BYTES,
        attribute.LOCAL: True,
        attribute.ALWAYS_SENSITIVE: True,
        attribute.NEVER_EXTRACTABLE: True,
    }
    if any(key[name] != value for name, value in wanted.items()):
        raise UsageError(
            "this key in the token is no root for a broker: it is not AES-256, or could be or was outside",
            remedy="Name a label that no key has yet; the broker makes its root under it.",
        )
