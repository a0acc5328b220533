"""A signer whose key never leaves a PKCS #11 token: an HSM, a smart card, SoftHSM.

Specification: PKCS #11 v2.40, mechanism CKM_ECDSA (we hash, the token signs the digest); RFC 7512 addresses
(`crypto.pkcs11uri`). Needs the extra `pkcs11`.

Knows: sessions, objects, PINs on their way into a session. Does not know: bundles. Safety: a PIN comes from a file, a
variable of the environment or a person, goes to the token and nowhere else; no error repeats it, nor what the token's module
says. Every signature is verified before it is used, so a token that signs with another key than it shows is found out.
Not covered: making keys, PIN pads, other keys than elliptic ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.crypto import signatures, x509
from strongroom.crypto.pkcs11uri import PinSource, TokenUri
from strongroom.errors import (
    FileUnreadable,
    MalformedArtifact,
    MalformedEvidence,
    MalformedRecord,
    SignatureInvalid,
    TokenUnavailable,
    UsageError,
)
from strongroom.sealed.files import file_errors

if TYPE_CHECKING:
    import pkcs11
    from cryptography.x509 import Certificate

MAX_PIN = 256

AskPin: TypeAlias = Callable[[], str]
"""Asks a person for a PIN."""


def read_pin(source: PinSource | None, ask: AskPin, environment: Mapping[str, str] = os.environ) -> str:
    """The PIN. Raises `FileUnreadable`, or `UsageError` for one that is missing, empty or too long."""
    if source is None:
        pin = ask()
    elif source.variable is not None:
        pin = environment.get(source.variable, "")
    else:
        with file_errors("the file of the PIN cannot be read"), Path(source.file or "").open("rb") as file:
            data = file.read(MAX_PIN + 3)
        try:
            pin = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise FileUnreadable("the file of the PIN is not text") from None
    if not 1 <= len(pin) <= MAX_PIN or not pin.isprintable():
        raise UsageError(
            "there is no PIN where it should be", remedy="Look at the pin-source in the address of the key."
        )
    return pin


class TokenSigner:
    """Signs with a key on P-256, P-384 or P-521 inside a token; a context, which ends the session.

    Raises `TokenUnavailable`; `UsageError` for a key of another kind; what `read_pin` raises.
    """

    certificates: tuple[bytes, ...] = ()

    def __init__(self, uri: TokenUri, ask: AskPin) -> None:
        import pkcs11

        with _token_errors():
            token = _token(uri)
        pin = read_pin(uri.pin, ask)
        with _token_errors():
            self._session = token.open(user_pin=pin)
        try:
            with _token_errors():
                self._key: Any = _one(self._session, pkcs11.ObjectClass.PRIVATE_KEY, uri)
                again = _asks_each_time(self._key)
            self._pin_each_time = pin if again else None
            self._public = _public(self._session, uri)
        except BaseException:
            self.close()
            raise

    @property
    def public(self) -> EllipticCurvePublicKey:
        return self._public

    def sign(self, data: bytes) -> bytes:
        """As every signer does. Raises `TokenUnavailable`."""
        import pkcs11

        hashing = hashes.Hash(signatures.hash_of(self._public.curve))
        hashing.update(data)
        options = {} if self._pin_each_time is None else {"pin": self._pin_each_time}
        with _token_errors():
            raw = self._key.sign(hashing.finalize(), mechanism=pkcs11.Mechanism.ECDSA, **options)
        half = len(raw) // 2
        signature = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
        try:
            signatures.verify(self._public, signature, data)
        except SignatureInvalid:
            raise TokenUnavailable("the token signs with another key than it shows") from None
        return signature

    def close(self) -> None:
        with _token_errors():
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def token_certificate(uri: TokenUri) -> Certificate:
    """The certificate in a token, which anybody may read: no PIN. Raises `TokenUnavailable`, `MalformedArtifact`."""
    import pkcs11

    with _token_errors(), _token(uri).open() as session:
        found = _one(session, pkcs11.ObjectClass.CERTIFICATE, uri)
        der = bytes(found[pkcs11.Attribute.VALUE])
    try:
        return x509.load_certificate(der)
    except MalformedEvidence as error:
        raise MalformedArtifact(f"the token's certificate: {error.message}") from None


def _token(uri: TokenUri) -> pkcs11.Token:
    import pkcs11

    found = []
    for slot in pkcs11.lib(uri.module).get_slots(token_present=True):
        if uri.slot is not None and slot.slot_id != uri.slot:
            continue
        token = slot.get_token()
        label, serial = token.label.rstrip(), token.serial.decode("utf-8", "replace").rstrip(" \0")
        if uri.token in {None, label} and uri.serial in {None, serial}:
            found.append(token)
    if len(found) != 1:
        raise TokenUnavailable(f"{len(found) or 'no'} tokens have the label, serial number and slot of the address")
    return found[0]


def _one(session: pkcs11.Session, kind: pkcs11.ObjectClass, uri: TokenUri) -> pkcs11.Object:
    import pkcs11

    wanted = {pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.LABEL: uri.label, pkcs11.Attribute.ID: uri.id}
    found = list(session.get_objects({name: value for name, value in wanted.items() if value is not None}))
    if len(found) != 1:
        what = kind.name.lower().replace("_", " ")
        raise TokenUnavailable(
            f"{len(found) or 'no'} objects of the kind {what} have the label and id of the address",
            remedy="List what the token holds (pkcs11-tool -O); name the object by label, id or both.",
        )
    return found[0]


def _asks_each_time(key: Any) -> bool:
    """Whether a key wants its PIN again before every signature, as some smart cards do; not every module knows of it."""
    import pkcs11

    try:
        return bool(key[pkcs11.Attribute.ALWAYS_AUTHENTICATE])
    except pkcs11.AttributeTypeInvalid:
        return False


def _public(session: pkcs11.Session, uri: TokenUri) -> EllipticCurvePublicKey:
    import pkcs11
    from pkcs11.util.ec import encode_ec_public_key

    with _token_errors():
        shown: Any = _one(session, pkcs11.ObjectClass.PUBLIC_KEY, uri)
        elliptic = shown[pkcs11.Attribute.KEY_TYPE] == pkcs11.KeyType.EC
        try:
            der = encode_ec_public_key(shown) if elliptic else b""
        except (ValueError, TypeError):
            der = b""
    try:
        public = signatures.public_from_der(der)
    except MalformedRecord:
        public = None
    if not isinstance(public, EllipticCurvePublicKey):
        raise UsageError("the key in the token is not on P-256, P-384 or P-521")
    return public


@contextmanager
def _token_errors() -> Iterator[None]:
    """Turn what the token's module raises into `TokenUnavailable`, which names the kind of error and nothing else."""
    try:
        yield
    except (RuntimeError, OSError) as error:  # PKCS11Error is a RuntimeError
        raise TokenUnavailable(f"the token or its module says {type(error).__name__}") from None
