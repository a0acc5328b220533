"""Credentials that only one TPM can read, and only for one key (TPM 2.0 Part 1, section 24; Part 3, TPM2_MakeCredential).

Knows: key derivation (KDFa, KDFe: Part 1, section 11.4.10), how a seed is sent to an endorsement key (Part 1, annexes B and
C) and how the credential is wrapped under it (section 24.4). Does not know: whose endorsement key it is (`trust`), what
the credential is good for (`enrol`). Safety: AES in CFB mode with a zero IV is what the specification wants; each seed, and
so each key, is used once, and the HMAC over the ciphertext and the key's name is checked before anything is decrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from strongroom.errors import UsageError
from strongroom.tee.tpm import parse
from strongroom.tee.tpm.parse import DECRYPT, FIXED_PARENT, FIXED_TPM, RESTRICTED, SENSITIVE_DATA_ORIGIN, SIGN, Public

HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
AES_BITS = frozenset({128, 192, 256})
ENDORSEMENT_BITS = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | DECRYPT


@dataclass(frozen=True, slots=True)
class Credential:
    """What TPM2_ActivateCredential takes: TPMS_ID_OBJECT and the encrypted seed, both without their TPM2B sizes."""

    blob: bytes
    secret: bytes


def make_credential(ek: Public, ak_name: str, value: bytes) -> Credential:
    """`value` so that only the TPM of `ek` reads it, and only if it holds the key named `ak_name` (hexadecimal).

    Raises `UsageError` for an endorsement key that could not keep it secret, and for a value too long.
    """
    name_hash, bits = endorsement_parameters(ek)
    if not value or len(value) > parse.DIGEST_BYTES[name_hash]:
        raise UsageError(f"a credential of {len(value)} bytes where at most {parse.DIGEST_BYTES[name_hash]} fit")
    seed, secret = _send_seed(ek, name_hash)
    name = bytes.fromhex(ak_name)
    encrypted = _cfb(kdfa(name_hash, seed, "STORAGE", name, b"", bits)).encryptor().update(sized(value))
    return Credential(sized(integrity(name_hash, seed, encrypted + name)) + encrypted, secret)


def open_credential(blob: bytes, seed: bytes, ek: Public, ak_name: str) -> bytes | None:
    """The value in a TPMS_ID_OBJECT once its seed is known, as a TPM does it; None where the integrity does not hold.

    Raises `MalformedEvidence` for a blob of another form.
    """
    name_hash, bits = endorsement_parameters(ek)
    size = int.from_bytes(blob[:2], "big")
    outer, encrypted, name = blob[2 : 2 + size], blob[2 + size :], bytes.fromhex(ak_name)
    if not hmac.compare_digest(outer, integrity(name_hash, seed, encrypted + name)):
        return None
    plain = _cfb(kdfa(name_hash, seed, "STORAGE", name, b"", bits)).decryptor().update(encrypted)
    reader = parse.Reader(plain, "a credential")
    value = reader.sized()
    reader.end()
    return value


def endorsement_parameters(ek: Public) -> tuple[str, int]:
    """The hash and the AES bits of an endorsement key that protects what is sent to it. Raises `UsageError`.

    It must never leave its TPM and decrypt only what the TPM's own rules allow (Part 1, section 24.1).
    """
    attributes = ek.attributes or 0
    if ek.name_hash not in HASHES or attributes & ENDORSEMENT_BITS != ENDORSEMENT_BITS or attributes & SIGN:
        raise UsageError("this is no endorsement key that a credential can be made for")
    if ek.symmetric is None or ek.symmetric[0] not in AES_BITS or ek.symmetric[1] != parse.CFB:
        raise UsageError("this endorsement key protects nothing with AES in CFB mode")
    return str(ek.name_hash), ek.symmetric[0]


def kdfa(name_hash: str, key: bytes, label: str, context_u: bytes, context_v: bytes, bits: int) -> bytes:
    """Key derivation from a key: HMAC in counter mode (Part 1, section 11.4.10.2)."""
    tail = label.encode("ascii") + b"\0" + context_u + context_v + bits.to_bytes(4, "big")
    return _counted(lambda counter: hmac.digest(key, counter + tail, name_hash), bits)


def kdfe(name_hash: str, shared: bytes, label: str, party_u: bytes, party_v: bytes, bits: int) -> bytes:
    """Key derivation from the x-coordinate of an ECDH exchange (Part 1, section 11.4.10.3)."""
    tail = shared + label.encode("ascii") + b"\0" + party_u + party_v
    return _counted(lambda counter: hashlib.new(name_hash, counter + tail).digest(), bits)


def integrity(name_hash: str, seed: bytes, data: bytes) -> bytes:
    """The outer HMAC of a credential (Part 1, section 24.5)."""
    bits = 8 * parse.DIGEST_BYTES[name_hash]
    return hmac.digest(kdfa(name_hash, seed, "INTEGRITY", b"", b"", bits), data, name_hash)


def coordinates(key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    """Both coordinates of a point in the full size of the field, as TPM 2.0 derives keys from them."""
    size = (key.curve.key_size + 7) // 8
    numbers = key.public_numbers()
    return numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big")


def oaep(name_hash: str) -> padding.OAEP:
    """The padding of a seed sent to an RSA endorsement key (Part 1, annex B.10.4)."""
    algorithm = HASHES[name_hash]
    return padding.OAEP(padding.MGF1(algorithm()), algorithm(), b"IDENTITY\0")


def sized(data: bytes) -> bytes:
    """A TPM2B."""
    return len(data).to_bytes(2, "big") + data


def _send_seed(ek: Public, name_hash: str) -> tuple[bytes, bytes]:
    """A new seed, and the same encrypted to the endorsement key."""
    if isinstance(ek.key, rsa.RSAPublicKey):
        seed = os.urandom(parse.DIGEST_BYTES[name_hash])
        return seed, ek.key.encrypt(seed, oaep(name_hash))
    ephemeral = ec.generate_private_key(ek.key.curve)
    shared = ephemeral.exchange(ec.ECDH(), ek.key)
    x, y = coordinates(ephemeral.public_key())
    bits = 8 * parse.DIGEST_BYTES[name_hash]
    return kdfe(name_hash, shared, "IDENTITY", x, coordinates(ek.key)[0], bits), sized(x) + sized(y)


def _counted(block: Callable[[bytes], bytes], bits: int) -> bytes:
    """Blocks for the counters 1, 2, …, cut to `bits`, which are whole bytes here."""
    made, counter = b"", 0
    while 8 * len(made) < bits:
        counter += 1
        made += block(counter.to_bytes(4, "big"))
    return made[: bits // 8]


def _cfb(key: bytes) -> Cipher[CFB]:
    return Cipher(algorithms.AES(key), CFB(bytes(16)))
