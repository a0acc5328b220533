"""A signer whose key never leaves a PKCS #11 token: an HSM, a smart card, SoftHSM.

Specification: PKCS #11 v2.40, mechanism CKM_ECDSA (we hash, the token signs the digest); RFC 7512 addresses
(`crypto.pkcs11uri`). Needs the extra `pkcs11`.

Knows: keys and certificates in a token. Does not know: bundles, PINs (`crypto.pkcs11token`). Safety: every signature is
verified before it is used, so a token that signs with another key than it shows is found out.
Not covered: making keys, other keys than elliptic ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.crypto import signatures, x509
from strongroom.crypto.pkcs11token import AskPin, find_object, find_token, read_pin, token_errors
from strongroom.crypto.pkcs11uri import TokenUri
from strongroom.errors import (
    MalformedArtifact,
    MalformedEvidence,
    MalformedRecord,
    SignatureInvalid,
    TokenUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    import pkcs11
    from cryptography.x509 import Certificate


class TokenSigner:
    """Signs with a key on P-256, P-384 or P-521 inside a token; a context, which ends the session.

    Raises `TokenUnavailable`; `UsageError` for a key of another kind; what `read_pin` raises.
    """

    certificates: tuple[bytes, ...] = ()

    def __init__(self, uri: TokenUri, ask: AskPin) -> None:
        import pkcs11

        with token_errors():
            token = find_token(uri)
        pin = read_pin(uri.pin, ask)
        with token_errors():
            self._session = token.open(user_pin=pin)
        try:
            with token_errors():
                self._key: Any = find_object(self._session, pkcs11.ObjectClass.PRIVATE_KEY, uri)
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
        with token_errors():
            raw = self._key.sign(hashing.finalize(), mechanism=pkcs11.Mechanism.ECDSA, **options)
        half = len(raw) // 2
        signature = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
        try:
            signatures.verify(self._public, signature, data)
        except SignatureInvalid:
            raise TokenUnavailable("the token signs with another key than it shows") from None
        return signature

    def close(self) -> None:
        with token_errors():
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def token_certificate(uri: TokenUri) -> Certificate:
    """The certificate in a token, which anybody may read: no PIN. Raises `TokenUnavailable`, `MalformedArtifact`."""
    import pkcs11

    with token_errors(), find_token(uri).open() as session:
        found = find_object(session, pkcs11.ObjectClass.CERTIFICATE, uri)
        der = bytes(found[pkcs11.Attribute.VALUE])
    try:
        return x509.load_certificate(der)
    except MalformedEvidence as error:
        raise MalformedArtifact(f"the token's certificate: {error.message}") from None


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

    with token_errors():
        shown: Any = find_object(session, pkcs11.ObjectClass.PUBLIC_KEY, uri)
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
