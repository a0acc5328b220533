"""HPKE: sealing to a public key (RFC 9180, base mode).

Two things, for two uses:

- `setup_sender`, `setup_receiver` and `Context`: a whole conversation under DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
  and one of the AEADs of RFC 9180, AES-256-GCM unless another is named. The sealed channel needs the running sequence
  and the exporter, so the schedule of RFC 9180 section 5 is written out here on primitives.
- `ReleaseKey` and `seal_to`: one sealed box under MLKEM768-X25519, HKDF-SHA256, AES-256-GCM, for released keys. A
  recording of a release stays closed to somebody who owns a quantum computer later.

Safety: base mode tells the receiver nothing about the sender; who may speak is the business of signatures above this.
A context must not be shared between threads (its sequence would repeat a nonce). An all-zero X25519 result is refused
(RFC 9180, section 7.1.4). Keys are held by OpenSSL; the schedule's secrets pass through Python memory and are not
overwritten there.

Knows: key encapsulation, the key schedule, AEAD. Does not know: what is sealed, or how it travels.
Not covered: the PSK and auth modes, other suites, export-only contexts.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from strongroom.errors import MalformedMessage, SealBroken

KEM_ID, KDF_ID, AEAD_ID = 0x0020, 0x0001, 0x0002
"""DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (RFC 9180, section 7)."""

X25519_BYTES = 32
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
HASH_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
MLKEM_SEED_BYTES = 64
RELEASE_PUBLIC_BYTES = MLKEM_PUBLIC_BYTES + X25519_BYTES
RELEASE_PRIVATE_BYTES = MLKEM_SEED_BYTES + X25519_BYTES
RELEASE_ENCAPSULATION_BYTES = 1088 + X25519_BYTES

AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = 0x0001, 0x0002, 0x0003
AEAD_KEY_BYTES = {AES_128_GCM: 16, AES_256_GCM: 32, CHACHA20_POLY1305: 32}
"""The AEADs of RFC 9180, section 7.3, each with the length of its key. Nonces are 12 bytes, tags 16, in all of them."""

_MAX_SEQUENCE = (1 << (8 * NONCE_BYTES)) - 1
_KEM_SUITE = b"KEM" + KEM_ID.to_bytes(2)
_BASE_MODE = b"\x00"
_RELEASE_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869, section 2.2): 32 bytes."""
    return hmac.digest(salt, secret, "sha256")


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, section 2.3): `length` bytes."""
    return HKDFExpand(SHA256(), length, info).derive(prk)


def sequence_nonce(base: bytes, sequence: int) -> bytes:
    """The nonce of message `sequence`: `base` with the number XORed in (RFC 9180, section 5.2)."""
    return (int.from_bytes(base) ^ sequence).to_bytes(NONCE_BYTES)


def aead(number: int, key: bytes) -> AESGCM | ChaCha20Poly1305:
    """The AEAD `number` of `AEAD_KEY_BYTES` under `key`. Raises MalformedMessage for any other number or length."""
    if len(key) != AEAD_KEY_BYTES.get(number):
        raise MalformedMessage(f"no AEAD {number} with a key of {len(key)} bytes")
    return ChaCha20Poly1305(key) if number == CHACHA20_POLY1305 else AESGCM(key)


def generate_x25519() -> X25519PrivateKey:
    """A new X25519 key pair."""
    return X25519PrivateKey.generate()


@dataclass(slots=True, eq=False)
class Context:
    """One end of a conversation (RFC 9180, section 5): the sender seals, the receiver opens, both export."""

    _aead: AESGCM | ChaCha20Poly1305 = field(repr=False)
    _base_nonce: bytes = field(repr=False)
    _exporter_secret: bytes = field(repr=False)
    _suite: bytes
    _sequence: int = 0

    def seal(self, plaintext: bytes, aad: bytes = b"") -> bytes:
        """The next message: ciphertext and a tag of 16 bytes."""
        sealed = self._aead.encrypt(self._nonce(), plaintext, aad)
        self._sequence += 1
        return sealed

    def open(self, ciphertext: bytes, aad: bytes = b"") -> bytes:
        """The next message's plaintext. Raises MalformedMessage if too short, SealBroken if it is not that message.

        After a failure the context still waits for the same message.
        """
        if len(ciphertext) < TAG_BYTES:
            raise MalformedMessage(f"a sealed message of {len(ciphertext)} bytes, shorter than its tag")
        try:
            plaintext = self._aead.decrypt(self._nonce(), ciphertext, aad)
        except InvalidTag as error:
            raise SealBroken(
                "a sealed message does not open",
                remedy="It was changed, moved or sealed to another key; ask the sender for a new one.",
                detail=f"sequence {self._sequence}",
            ) from error
        self._sequence += 1
        return plaintext

    def export(self, label: bytes, length: int) -> bytes:
        """`length` bytes that only the two ends know, one value per `label` (RFC 9180, section 5.3)."""
        return _labeled_expand(self._suite, self._exporter_secret, b"sec", label, length)

    def _nonce(self) -> bytes:
        if self._sequence >= _MAX_SEQUENCE:
            raise SealBroken("the conversation has used up its nonces")
        return sequence_nonce(self._base_nonce, self._sequence)


def setup_sender(public: bytes, info: bytes, aead_id: int = AEAD_ID) -> tuple[bytes, Context]:
    """A conversation towards `public` (32 bytes): the encapsulation to send first (32 bytes), and the sender's context.

    Raises MalformedMessage for a key that is not an X25519 key, or an AEAD that is none.
    """
    ephemeral = generate_x25519()
    encapsulation = ephemeral.public_key().public_bytes_raw()
    shared = _shared_secret(_exchange(ephemeral, public), encapsulation, public)
    return encapsulation, _schedule(shared, info, aead_id)


def setup_receiver(private: X25519PrivateKey, encapsulation: bytes, info: bytes, aead_id: int = AEAD_ID) -> Context:
    """The receiver's context for the conversation begun by `encapsulation`. Raises MalformedMessage if it is none.

    A wrong encapsulation of the right length is not seen here, but at the first message that does not open.
    """
    shared = _shared_secret(_exchange(private, encapsulation), encapsulation, private.public_key().public_bytes_raw())
    return _schedule(shared, info, aead_id)


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    if len(public) != X25519_BYTES:
        raise MalformedMessage(f"an X25519 key of {len(public)} bytes where {X25519_BYTES} are needed")
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # the result is all zero: a point of small order
        raise MalformedMessage("an X25519 key of small order") from error


def _shared_secret(dh: bytes, encapsulation: bytes, public: bytes) -> bytes:
    """ExtractAndExpand of RFC 9180, section 4.1."""
    prk = _labeled_extract(_KEM_SUITE, b"", b"eae_prk", dh)
    return _labeled_expand(_KEM_SUITE, prk, b"shared_secret", encapsulation + public, HASH_BYTES)


def _schedule(shared: bytes, info: bytes, aead_id: int) -> Context:
    """KeySchedule of RFC 9180, section 5.1, in base mode: no PSK, an empty PSK identity."""
    if aead_id not in AEAD_KEY_BYTES:
        raise MalformedMessage(f"no AEAD has the number {aead_id}")
    suite = b"HPKE" + KEM_ID.to_bytes(2) + KDF_ID.to_bytes(2) + aead_id.to_bytes(2)
    psk_id_hash = _labeled_extract(suite, b"", b"psk_id_hash", b"")
    info_hash = _labeled_extract(suite, b"", b"info_hash", info)
    context = _BASE_MODE + psk_id_hash + info_hash
    secret = _labeled_extract(suite, shared, b"secret", b"")
    key = _labeled_expand(suite, secret, b"key", context, AEAD_KEY_BYTES[aead_id])
    base_nonce = _labeled_expand(suite, secret, b"base_nonce", context, NONCE_BYTES)
    exporter_secret = _labeled_expand(suite, secret, b"exp", context, HASH_BYTES)
    return Context(aead(aead_id, key), base_nonce, exporter_secret, suite)


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + secret)


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(prk, length.to_bytes(2) + b"HPKE-v1" + suite + label + info, length)


@dataclass(frozen=True, slots=True, eq=False)
class ReleaseKey:
    """A private key of MLKEM768-X25519, to which data keys are released."""

    _mlkem: MLKEM768PrivateKey = field(repr=False)
    _x25519: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The key whose `to_bytes` this was (96 bytes). Raises MalformedMessage."""
        if len(data) != RELEASE_PRIVATE_BYTES:
            raise MalformedMessage(
                f"a private release key of {len(data)} bytes where {RELEASE_PRIVATE_BYTES} are needed"
            )
        seed, scalar = data[:MLKEM_SEED_BYTES], data[MLKEM_SEED_BYTES:]
        return cls(MLKEM768PrivateKey.from_seed_bytes(seed), X25519PrivateKey.from_private_bytes(scalar))

    def to_bytes(self) -> bytes:
        """For keys kept at rest: the ML-KEM seed d || z (64 bytes) and the X25519 scalar (32 bytes). Secret."""
        return self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """1216 bytes: the ML-KEM-768 public key, then the X25519 public key."""
        return self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw()

    def open(self, encapsulation: bytes, ciphertext: bytes, info: bytes) -> bytes:
        """What `seal_to` closed for this key under the same `info`.

        Raises MalformedMessage for wrong lengths, SealBroken if anything differs.
        """
        if len(encapsulation) != RELEASE_ENCAPSULATION_BYTES or len(ciphertext) < TAG_BYTES:
            raise MalformedMessage(f"a sealed box of {len(encapsulation)} and {len(ciphertext)} bytes is none")
        key = MLKEM768X25519PrivateKey(self._mlkem, self._x25519)
        try:
            return _RELEASE_SUITE.decrypt(encapsulation + ciphertext, key, info)
        except (InvalidTag, ValueError) as error:
            raise SealBroken(
                "a sealed box does not open",
                remedy="It was changed, or sealed to another key or for another context; ask for a new one.",
            ) from error


def seal_to(public: bytes, plaintext: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Close `plaintext` for the holder of `public` (1216 bytes): encapsulation (1120 bytes) and ciphertext.

    It opens only under the same `info`. Raises MalformedMessage for a key that is none.
    """
    if len(public) != RELEASE_PUBLIC_BYTES:
        raise MalformedMessage(f"a release key of {len(public)} bytes where {RELEASE_PUBLIC_BYTES} are needed")
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public[MLKEM_PUBLIC_BYTES:]),
        )
        box = _RELEASE_SUITE.encrypt(plaintext, key, info)
    except ValueError as error:
        raise MalformedMessage("a release key that is no MLKEM768-X25519 key") from error
    return box[:RELEASE_ENCAPSULATION_BYTES], box[RELEASE_ENCAPSULATION_BYTES:]
