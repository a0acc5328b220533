"""Segments: Tink's AES256-GCM-HKDF streaming format, written in order and opened in parallel or at any place.

Wire format (developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming): a header of 40 bytes (its own length, a
salt of 32, a nonce prefix of 7), then segments of ciphertext with their tags. The first segment shares its room with
the header; all but the last are full. Stream key = HKDF-SHA256(key, salt, info = associated data); nonce = prefix |
u32 number | last flag.

Safety: number and last flag sit in the nonce, so a segment that was moved, repeated or cut off does not open, and
associated data tie a stream to its place. A sink may hold plaintext of other segments when one fails: give it to nobody
before `decrypt_into` has returned. Buffers are made once a thread and reused, for fresh pages cost more than AES; those
that held plaintext are overwritten. Derived keys live in OpenSSL; the data key is the caller's.

Knows: lengths, keys, nonces, threads. Does not know: what a stream holds or where it lies.
Not covered: other key sizes and hashes of the format; streams of unknown length; secrecy of sizes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.errors import MalformedArtifact, SealBroken, UsageError

KEY_BYTES = 32
SALT_BYTES = 32
PREFIX_BYTES = 7
TAG_BYTES = 16
HEADER_BYTES = 1 + SALT_BYTES + PREFIX_BYTES

SEGMENT_BYTES = 1 << 20
"""Ciphertext bytes of a segment where nobody says otherwise."""
MIN_SEGMENT_BYTES = 128
MAX_SEGMENT_BYTES = 1 << 26
MAX_SEGMENTS = 1 << 32

Random: TypeAlias = Callable[[int], bytes]
"""A source of that many random bytes."""

Sink: TypeAlias = Callable[[memoryview, int], None]
"""Takes plaintext and its offset; called from several threads, each place once."""


class Source(Protocol):
    """Ciphertext that can be read at any place, from several threads."""

    def read_into(self, buffer: memoryview, offset: int, /) -> None:
        """Fill `buffer` from `offset`, wholly. Raises `SealBroken` where the bytes end before it is full."""


class Reader(Protocol):
    """Plaintext in order; 0 is its end."""

    def readinto(self, buffer: memoryview, /) -> int: ...


class Writer(Protocol):
    """Takes all of `data`, in order."""

    def write(self, data: memoryview, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Shape:
    """The lengths of one stream, all of which follow from these two. Raises `MalformedArtifact` for impossible ones."""

    ciphertext_bytes: int
    segment_bytes: int

    def __post_init__(self) -> None:
        if not MIN_SEGMENT_BYTES <= self.segment_bytes <= MAX_SEGMENT_BYTES:
            raise MalformedArtifact(f"segments of {self.segment_bytes} bytes are outside what this format allows")
        last = self.ciphertext_bytes - (self.segments - 1) * self.segment_bytes
        least = HEADER_BYTES + TAG_BYTES if self.segments <= 1 else TAG_BYTES + 1
        if not 1 <= self.segments <= MAX_SEGMENTS or last < least:
            raise MalformedArtifact(f"no stream is {self.ciphertext_bytes} bytes long")

    @property
    def segments(self) -> int:
        return -(-self.ciphertext_bytes // self.segment_bytes)

    @property
    def plaintext_bytes(self) -> int:
        return self.ciphertext_bytes - HEADER_BYTES - TAG_BYTES * self.segments

    def place(self, number: int) -> tuple[int, int, int]:
        """Of segment `number`: its offset in the ciphertext, that in the plaintext, and its plaintext's length."""
        start = number * self.segment_bytes if number else HEADER_BYTES
        end = min((number + 1) * self.segment_bytes, self.ciphertext_bytes)
        return start, start - HEADER_BYTES - TAG_BYTES * number, end - start - TAG_BYTES


def encrypt(
    source: Reader, sink: Writer, *, key: bytes | bytearray, aad: bytes, segment_bytes: int, random: Random
) -> int:
    """Write `source` to `sink` as one stream and return the number of plaintext bytes.

    `key` has 32 bytes, `segment_bytes` counts ciphertext with its tag. Raises `UsageError` for other values.
    """
    if len(key) != KEY_BYTES or not MIN_SEGMENT_BYTES <= segment_bytes <= MAX_SEGMENT_BYTES:
        raise UsageError(f"a key of {len(key)} bytes or segments of {segment_bytes} bytes are outside the format")
    salt, prefix = random(SALT_BYTES), random(PREFIX_BYTES)
    aead = _stream_cipher(key, salt, aad)
    sink.write(memoryview(bytes([HEADER_BYTES]) + salt + prefix))
    sealed = memoryview(bytearray(segment_bytes))
    now, ahead = (memoryview(bytearray(segment_bytes - TAG_BYTES)) for _ in range(2))
    try:
        length = _fill(source, now[: segment_bytes - TAG_BYTES - HEADER_BYTES])
        following, number, total = _fill(source, ahead), 0, 0
        while True:
            nonce = _nonce(prefix, number, last=following == 0)
            count = aead.encrypt_into(nonce, now[:length], None, sealed[: length + TAG_BYTES])
            sink.write(sealed[:count])
            total += length
            if following == 0:
                break
            now, ahead, length, number = ahead, now, following, number + 1
            following = _fill(source, ahead)
    finally:
        for buffer in (now, ahead):
            _wipe(buffer)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One stream that is open for reading, at any place and from several threads."""

    shape: Shape
    _source: Source = field(repr=False)
    _prefix: bytes = field(repr=False)
    _aead: AESGCM = field(repr=False)

    def segment_into(self, number: int, sealed: memoryview, plain: memoryview) -> int:
        """Decrypt segment `number` into `plain` and return its length. `sealed` is room for a segment of ciphertext.

        Raises `SealBroken` if it is not that segment of this stream.
        """
        offset, _, length = self.shape.place(number)
        ciphertext = sealed[: length + TAG_BYTES]
        self._source.read_into(ciphertext, offset)
        nonce = _nonce(self._prefix, number, last=number == self.shape.segments - 1)
        try:
            return self._aead.decrypt_into(nonce, ciphertext, None, plain[:length])
        except InvalidTag:
            raise SealBroken("a segment does not open", detail=f"segment {number}") from None

    def read(self, offset: int, length: int) -> bytearray:
        """`length` bytes of plaintext from `offset`; only the segments that hold them are read.

        Raises `UsageError` for a range outside the stream, `SealBroken` for a segment that does not open.
        """
        if offset < 0 or length < 0 or offset + length > self.shape.plaintext_bytes:
            raise UsageError("this range lies outside the stream")
        result, done = bytearray(length), 0
        sealed, plain = _buffers(self.shape)
        number = (offset + HEADER_BYTES) // (self.shape.segment_bytes - TAG_BYTES)
        try:
            while done < length:
                _, start, size = self.shape.place(number)
                self.segment_into(number, sealed, plain)
                skip = offset + done - start
                part = plain[skip : min(size, skip + length - done)]
                result[done : done + len(part)] = part
                done, number = done + len(part), number + 1
        finally:
            _wipe(plain)
        return result


def open_stream(
    source: Source, *, ciphertext_bytes: int, key: bytes | bytearray, aad: bytes, segment_bytes: int
) -> Stream:
    """Read the header of a stream and derive its key; nothing is proved before a segment opens.

    Raises `MalformedArtifact` for lengths or a header that no stream has.
    """
    shape = Shape(ciphertext_bytes, segment_bytes)
    header = bytearray(HEADER_BYTES)
    source.read_into(memoryview(header), 0)
    if header[0] != HEADER_BYTES:
        raise MalformedArtifact("this is not the header of a stream")
    salt, prefix = bytes(header[1 : 1 + SALT_BYTES]), bytes(header[1 + SALT_BYTES :])
    return Stream(shape, source, prefix, _stream_cipher(key, salt, aad))


def decrypt_into(stream: Stream, sink: Sink, *, threads: int | None = None) -> None:
    """Decrypt all of `stream` into `sink`, by `threads` threads (default: one a processor that we may use).

    Every segment is verified. Raises `SealBroken` if one does not open; what `sink` holds then is worth nothing.
    """
    workers = min(threads or len(os.sched_getaffinity(0)), stream.shape.segments)
    stop = Event()
    if workers == 1:
        _decrypt_share(stream, sink, range(stream.shape.segments), stop)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="open") as pool:
        shares = [range(first, stream.shape.segments, workers) for first in range(workers)]
        done = [pool.submit(_decrypt_share, stream, sink, share, stop) for share in shares]
        try:
            for future in done:
                future.result()
        except BaseException:  # an interrupt, too, must not wait for the rest
            stop.set()
            raise


def _decrypt_share(stream: Stream, sink: Sink, numbers: range, stop: Event) -> None:
    sealed, plain = _buffers(stream.shape)
    try:
        for number in numbers:
            if stop.is_set():
                return
            length = stream.segment_into(number, sealed, plain)
            sink(plain[:length], stream.shape.place(number)[1])
    except BaseException:
        stop.set()
        raise
    finally:
        _wipe(plain)


def _buffers(shape: Shape) -> tuple[memoryview, memoryview]:
    size = min(shape.segment_bytes, shape.ciphertext_bytes)
    return memoryview(bytearray(size)), memoryview(bytearray(size))


def _stream_cipher(key: bytes | bytearray, salt: bytes, aad: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, aad).derive(key))


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _fill(source: Reader, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer):
        count = source.readinto(buffer[filled:])
        if count == 0:
            break
        filled += count
    return filled


def _wipe(buffer: memoryview) -> None:
    buffer[:] = bytes(len(buffer))
