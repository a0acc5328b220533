"""Encrypted streams (Tink AES256-GCM-HKDF): lengths, header, segments."""

import io
import secrets
from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.crypto import segments
    from strongroom.errors import SealBroken, StrongroomError

KEY, AAD, SEGMENT = bytes(32), b"fuzz", segments.MIN_SEGMENT_BYTES


class Bytes:
    """Ciphertext in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_into(self, buffer: memoryview, offset: int, /) -> None:
        part = self._data[offset : offset + len(buffer)]
        if len(part) != len(buffer):
            raise SealBroken("the stream ends before its size")
        buffer[:] = part


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        stream = segments.open_stream(Bytes(data), ciphertext_bytes=len(data), key=KEY, aad=AAD, segment_bytes=SEGMENT)
        segments.decrypt_into(stream, lambda _data, _offset: None, threads=1)


def seeds() -> list[bytes]:
    made = []
    for length in (0, 1, 3 * SEGMENT):
        sealed = io.BytesIO()
        source = io.BytesIO(bytes(length))
        segments.encrypt(source, sealed, key=KEY, aad=AAD, segment_bytes=SEGMENT, random=secrets.token_bytes)
        made.append(sealed.getvalue())
    return made


if __name__ == "__main__":
    run(one, seeds)
