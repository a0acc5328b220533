"""One layer: AES-256 in counter mode, and HMAC-SHA256 over the ciphertext under the same key (AES_256_CTR_HMAC_SHA256).

Safety: counter mode lets anybody flip any bit, and only the MAC over the whole layer shows it. So the ciphertext is brought
into a private file first, MAC and digest are compared, and only then is it decrypted, in that file: no plaintext of a
changed layer ever exists, in memory or on disk, and nobody can change it between check and use.

Knows: one layer's bytes. Does not know: where they come from or who may have them. Format: containers/ocicrypt, blockcipher.
Not covered: reading a range; the format cannot prove one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strongroom.crypto.segments import Reader, Source, Writer
from strongroom.errors import SealBroken
from strongroom.records.digest import Digest
from strongroom.sealed.files import file_errors

CHUNK_BYTES = 4 * 1024 * 1024


def encrypt(source: Reader, sink: Writer, *, key: bytes, nonce: bytes) -> bytes:
    """Write `source` to `sink` encrypted; returns the MAC. `key` has 32 bytes, `nonce` 16; neither is used twice."""
    cipher, mac = _counter(key, nonce).encryptor(), hmac.new(key, digestmod=hashlib.sha256)
    plain, sealed = bytearray(CHUNK_BYTES), memoryview(bytearray(CHUNK_BYTES + 15))
    try:
        while count := source.readinto(memoryview(plain)):
            cipher.update_into(memoryview(plain)[:count], sealed)
            mac.update(sealed[:count])
            sink.write(sealed[:count])
    finally:
        plain[:] = bytes(len(plain))
    return mac.digest()


def fetch(
    source: Source, size: int, fd: int, *, digest: Digest, key: bytes, mac: bytes, on_read: Callable[[int], None]
) -> None:
    """Copy the ciphertext of `size` bytes into the empty file `fd`, and prove that it is whole and unchanged.

    Raises `SealBroken` if it is not; what is in the file then is ciphertext, and worth nothing.
    """
    found, whole = hmac.new(key, digestmod=hashlib.sha256), hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK_BYTES, max(size, 1))))
    with file_errors("a layer cannot be written"):
        if size:
            os.posix_fallocate(fd, 0, size)  # too little room is said at once
    for offset in range(0, size, CHUNK_BYTES):
        part = buffer[: min(CHUNK_BYTES, size - offset)]
        source.read_into(part, offset)
        found.update(part)
        whole.update(part)
        _write_at(fd, part, offset)
        on_read(len(part))
    if not hmac.compare_digest(found.digest(), mac):
        raise SealBroken("the MAC of a layer does not hold: it was changed, cut or mixed")
    if "sha256:" + whole.hexdigest() != digest:
        raise SealBroken("a layer does not have the digest by which it is known")


def decrypt_in_place(fd: int, size: int, *, key: bytes, nonce: bytes) -> Digest:
    """Turn the proved ciphertext in `fd` into plaintext; returns the plaintext's digest."""
    cipher, whole = _counter(key, nonce).decryptor(), hashlib.sha256()
    sealed, plain = bytearray(CHUNK_BYTES), memoryview(bytearray(CHUNK_BYTES + 15))
    try:
        for offset in range(0, size, CHUNK_BYTES):
            part = memoryview(sealed)[: min(CHUNK_BYTES, size - offset)]
            _read_at(fd, part, offset)
            cipher.update_into(part, plain)
            whole.update(plain[: len(part)])
            _write_at(fd, plain[: len(part)], offset)
    finally:
        plain[:] = bytes(len(plain))
    return Digest("sha256:" + whole.hexdigest())


def _counter(key: bytes, nonce: bytes) -> Cipher[modes.CTR]:
    return Cipher(algorithms.AES256(key), modes.CTR(nonce))


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    with file_errors("a layer cannot be written"):
        while data:
            count = os.pwrite(fd, data, offset)
            data, offset = data[count:], offset + count


def _read_at(fd: int, data: memoryview, offset: int) -> None:
    with file_errors("a layer cannot be read"):
        while data:
            count = os.preadv(fd, [data], offset)
            if count == 0:
                raise SealBroken("a layer became shorter while it was opened")
            data, offset = data[count:], offset + count
