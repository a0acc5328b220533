"""One layer: counter mode as the standard has it, and no plaintext before its MAC was compared."""

import hashlib
import hmac
import io
import os
import tempfile

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import SealBroken
from strongroom.records.digest import digest_bytes
from strongroom.sealed.ocicrypt import layer

KEY, NONCE = bytes(range(32)), bytes([255]) * 15 + bytes([254])  # the counter wraps round


class Memory:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_into(self, buffer: memoryview, offset: int) -> None:
        if offset + len(buffer) > len(self.data):
            raise SealBroken("a blob ends before its size")
        buffer[:] = self.data[offset : offset + len(buffer)]


def encrypted(plain: bytes) -> tuple[bytes, bytes]:
    sink = io.BytesIO()
    mac = layer.encrypt(io.BytesIO(plain), sink, key=KEY, nonce=NONCE)
    return sink.getvalue(), mac


def opened(sealed: bytes, mac: bytes, *, size: int | None = None, digest: str | None = None, told=None) -> bytes:
    size = len(sealed) if size is None else size
    with tempfile.TemporaryFile() as file:
        fd = file.fileno()
        try:
            layer.fetch(
                Memory(sealed), size, fd, digest=digest or digest_bytes(sealed), key=KEY, mac=mac,
                on_read=([] if told is None else told).append,
            )  # fmt: skip
        except SealBroken:
            assert os.pread(fd, size, 0) in (sealed[:size], bytes(size)), "ciphertext at most"
            raise
        assert os.pread(fd, size, 0) == sealed
        found = layer.decrypt_in_place(fd, size, key=KEY, nonce=NONCE)
        plain = os.pread(fd, size, 0)
    assert found == digest_bytes(plain)
    return plain


@given(st.binary(max_size=1000))
def test_a_layer_is_what_the_standards_say_and_opens(plain):
    sealed, mac = encrypted(plain)
    reference = Cipher(algorithms.AES(KEY), modes.CTR(NONCE)).encryptor()
    assert sealed == reference.update(plain) + reference.finalize()
    assert mac == hmac.digest(KEY, sealed, "sha256")
    assert opened(sealed, mac) == plain


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 63, 64, 65, 128, 200])
def test_layers_at_the_edges_of_chunks(monkeypatch, size):
    monkeypatch.setattr(layer, "CHUNK_BYTES", 64)
    plain = os.urandom(size)
    sealed, mac = encrypted(plain)
    told: list[int] = []
    assert opened(sealed, mac, told=told) == plain
    assert sum(told) == size
    assert hashlib.sha256(plain).hexdigest() in digest_bytes(plain)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_flipped_bit_is_noticed_though_the_digest_was_made_anew(plain, data):
    sealed, mac = encrypted(plain)
    changed = bytearray(sealed)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBroken, match="MAC"):
        opened(bytes(changed), mac)


def test_cut_lengthened_and_otherwise_named_layers_are_refused():
    sealed, mac = encrypted(b"0123456789")
    for other in (sealed[:-1], sealed + b"\0", b""):
        with pytest.raises(SealBroken, match="MAC"):
            opened(other, mac)
    with pytest.raises(SealBroken, match="ends before"):
        opened(sealed, mac, size=11)
    with pytest.raises(SealBroken, match="digest"):
        opened(sealed, mac, digest=digest_bytes(b"another"))
