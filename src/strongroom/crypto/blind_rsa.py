"""Blind RSA signatures: what is signed is not seen (RFC 9474, RSABSSA-SHA384-PSS-Randomized).

A client blinds a message, a server signs the blinded one, and the client takes the blinding off: an ordinary RSA-PSS
signature (SHA-384, salt of 48 bytes) that the server cannot recognise. The five steps are sections 4.1 to 4.5; a random
prefix goes before each message, so that it has full entropy whatever its content (`prepare`).

Safety: unlinkability holds whatever the server computes, as long as every client blinds for the same public key, which
is the business of whoever publishes it. Keys have 2048 to 4096 bits and the exponent 65537, nothing else.
**Not constant in time:** `cryptography` has no raw RSA, so modular powers and inverses are Python's, which take a time
that depends on their operands. The server multiplies each request by a fresh random factor before its private power, so
that what takes the time is not of the client's choosing (RFC 9474, section 7.1 asks for constant time; this is the usual
second best), and checks each signature before it leaves, so that no fault in it gives the key away. The client's
blinding factor is used once. Run a server on a machine of its own.

Knows: numbers, paddings. Does not know: what is signed, who asks. Key files are `signatures`' form, PKCS #8 and SPKI.
Not covered: the variants without salt, without prefix, with public metadata.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from strongroom.errors import MalformedMessage, SignatureInvalid

KEY_BITS = 2048
MIN_BITS, MAX_BITS = 2048, 4096
EXPONENT = 65537
PREFIX_BYTES = 32
SALT_BYTES = 48
_HASH_BYTES = 48
_TRAILER = b"\xbc"
_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), SALT_BYTES)

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Blinded:
    """A blinded message: `request` goes to the server, `inverse` takes the blinding off and stays secret."""

    request: bytes
    inverse: int = field(repr=False)


def generate(bits: int = KEY_BITS) -> rsa.RSAPrivateKey:
    """A new key."""
    return rsa.generate_private_key(EXPONENT, bits)


def public_from_der(data: bytes) -> rsa.RSAPublicKey:
    """The public key in a SubjectPublicKeyInfo (DER). Raises MalformedMessage for one that this module does not use."""
    try:
        key = serialization.load_der_public_key(data)
    except ValueError:
        raise MalformedMessage("not a public key") from None
    return check(key)


def public_to_der(key: rsa.RSAPublicKey) -> bytes:
    """The SubjectPublicKeyInfo of a key (DER): its one encoding, whose SHA-256 names the key."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def check(key: object) -> rsa.RSAPublicKey:
    """`key` if it is an RSA key of a size and exponent that this module uses. Raises MalformedMessage."""
    if not isinstance(key, rsa.RSAPublicKey) or not MIN_BITS <= key.key_size <= MAX_BITS or key.key_size % 8:
        raise MalformedMessage(f"not an RSA key of {MIN_BITS} to {MAX_BITS} bits")
    if key.public_numbers().e != EXPONENT:
        raise MalformedMessage(f"an RSA key whose exponent is not {EXPONENT}")
    return key


def prepare(message: bytes, random: Random = secrets.token_bytes) -> bytes:
    """The message that is signed: a random prefix, then `message` (section 4.1)."""
    return random(PREFIX_BYTES) + message


def blind(key: rsa.RSAPublicKey, prepared: bytes, random: Random = secrets.token_bytes) -> Blinded:
    """Blind a prepared message for `key` (section 4.2). `random` gives bytes: the salt, then the blinding factor."""
    n = key.public_numbers().n
    size = _size(n)
    encoded = int.from_bytes(_encode(prepared, random(SALT_BYTES), n.bit_length() - 1))
    factor = _below(n, random)
    if math.gcd(encoded, n) != 1 or math.gcd(factor, n) != 1:
        raise MalformedMessage("a message or blinding factor that shares a factor with the key")
    request = encoded * pow(factor, EXPONENT, n) % n
    return Blinded(request.to_bytes(size), pow(factor, -1, n))


def blind_sign(key: rsa.RSAPrivateKey, request: bytes, random: Random = secrets.token_bytes) -> bytes:
    """Sign what was blinded (section 4.3). Raises MalformedMessage for what is no request under this key."""
    numbers = key.private_numbers()
    n = numbers.public_numbers.n
    message = int.from_bytes(request)
    if len(request) != _size(n) or not 0 < message < n:
        raise MalformedMessage("a blinded message that does not fit the key")
    mask = _below(n, random)
    masked = message * pow(mask, EXPONENT, n) % n
    # The Chinese remainder theorem: two powers of half the size.
    at_p, at_q = pow(masked, numbers.dmp1, numbers.p), pow(masked, numbers.dmq1, numbers.q)
    signed = (at_q + numbers.q * ((at_p - at_q) * numbers.iqmp % numbers.p)) * pow(mask, -1, n) % n
    if pow(signed, EXPONENT, n) != message:
        raise SignatureInvalid("a blind signature came out wrong", remedy="Nothing was signed; check the machine.")
    return signed.to_bytes(_size(n))


def finalize(key: rsa.RSAPublicKey, prepared: bytes, signed: bytes, inverse: int) -> bytes:
    """The signature of `prepared`, its blinding taken off (section 4.4).

    Raises MalformedMessage for the wrong length, SignatureInvalid if the server did not sign this.
    """
    n = key.public_numbers().n
    if len(signed) != _size(n):
        raise MalformedMessage("a blind signature that does not fit the key")
    signature = (int.from_bytes(signed) * inverse % n).to_bytes(_size(n))
    verify(key, prepared, signature)
    return signature


def verify(key: rsa.RSAPublicKey, prepared: bytes, signature: bytes) -> None:
    """Raises SignatureInvalid unless `signature` is one of `prepared` under `key` (section 4.5)."""
    try:
        key.verify(signature, prepared, _PSS, hashes.SHA384())
    except InvalidSignature:
        raise SignatureInvalid("a blind signature that does not hold") from None


def _encode(message: bytes, salt: bytes, bits: int) -> bytes:
    """EMSA-PSS-ENCODE with SHA-384 and MGF1 (RFC 8017, section 9.1.1)."""
    size = -(-bits // 8)
    digest = hashlib.sha384(bytes(8) + hashlib.sha384(message).digest() + salt).digest()
    block = bytes(size - SALT_BYTES - _HASH_BYTES - 2) + b"\x01" + salt
    masked = bytearray(a ^ b for a, b in zip(block, _mgf1(digest, len(block)), strict=True))
    masked[0] &= 0xFF >> (8 * size - bits)
    return bytes(masked) + digest + _TRAILER


def _mgf1(seed: bytes, length: int) -> bytes:
    blocks = (hashlib.sha384(seed + count.to_bytes(4)).digest() for count in range(-(-length // _HASH_BYTES)))
    return b"".join(blocks)[:length]


def _below(n: int, random: Random) -> int:
    """A number from 1 to n - 1, each as likely as any (rejection; fewer than two tries on average)."""
    mask = (1 << n.bit_length()) - 1
    while not 0 < (number := int.from_bytes(random(_size(n))) & mask) < n:
        pass
    return number


def _size(n: int) -> int:
    return -(-n.bit_length() // 8)
