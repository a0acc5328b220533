"""Segments: Tink's AES256-GCM-HKDF streaming format, written in order and opened in parallel or at any place.

Wire format (developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming): a header of 40 bytes (its own length, a
salt of 32, a nonce prefix of 7), then segments of ciphertext with their tags. The first segment shares its room with
the header; all but the last are full. Stream key = HKDF-SHA256(key, salt, info = associated data); nonce = prefix |
u32 number | last flag.

Safety: number and last flag sit in the nonce, so a segment that was moved, repeated or cut off does not open, and
associated data tie a stream to its place. A sink may hold plaintext of other segments when one fails: give it to nobody
before `decrypt_into` or `read_into` has returned. Buffers are made once a thread and reused, for fresh pages cost more than AES; those
that held plaintext are overwritten. Derived keys live in OpenSSL; the data key is the caller's.

Knows: lengths, keys, nonces, threads. Does not know: what a stream holds or where it lies.
Not covered: other key sizes and hashes of the format; streams of unknown length; secrecy of sizes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Protocol, Self, TypeAlias

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
SCRATCH_BYTES = 48 << 20
"""How much memory all threads of one decryption may use besides where the plaintext goes; one thread always may work."""

Random: TypeAlias = Callable[[int], bytes]
"""A source of that many random bytes."""

Sink: TypeAlias = Callable[[memoryview, int], None]
"""Takes plaintext and its offset; called from several threads, each place once."""


_Work: TypeAlias = Callable[[int, memoryview, memoryview], None]
"""Takes a segment's number, room for its ciphertext and room for its plaintext."""


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
    sealed = [memoryview(bytearray(segment_bytes)) for _ in range(2)]
    now, ahead = (memoryview(bytearray(segment_bytes - TAG_BYTES)) for _ in range(2))
    with _Behind() as behind:
        try:
            behind.do(partial(sink.write, memoryview(bytes([HEADER_BYTES]) + salt + prefix)))
            length = _fill(source, now[: segment_bytes - TAG_BYTES - HEADER_BYTES])
            following, number, total = _fill(source, ahead), 0, 0
            while True:
                nonce, room = _nonce(prefix, number, last=following == 0), sealed[number % 2]
                count = aead.encrypt_into(nonce, now[:length], None, room[: length + TAG_BYTES])
                behind.do(partial(sink.write, room[:count]))
                total += length
                if following == 0:
                    break
                now, ahead, length, number = ahead, now, following, number + 1
                following = _fill(source, ahead)
        finally:
            for buffer in (now, ahead):
                _wipe(buffer)
    return total


class _Behind:
    """A thread one step behind: it writes and hashes a segment while the next one is read, hashed and encrypted.

    One job is under way at most, so two rooms are enough; what a job raises is raised by the next call, or at the end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._job: Future[object] | None = None

    def do(self, job: Callable[[], object]) -> None:
        self._wait()
        self._job = self._pool.submit(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._pool.shutdown()

    def _wait(self) -> None:
        if self._job is not None:
            self._job.result()


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One stream that is open for reading, at any place and from several threads."""

    shape: Shape
    _source: Source = field(repr=False)
    _prefix: bytes = field(repr=False)
    _aead: AESGCM = field(repr=False)
    lanes: int | None = field(default=None, repr=False)
    """How many threads read it where nobody says; None for one a processor that we may use."""

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
        """`length` bytes of plaintext from `offset`; only the segments that hold them are read. Raises as `read_into`."""
        self.span(offset, length)  # before room is made for it
        result = bytearray(length)
        read_into(self, memoryview(result), offset, threads=1)
        return result

    def span(self, offset: int, length: int) -> range:
        """The segments that hold `length` bytes of plaintext from `offset`. Raises `UsageError` outside the stream."""
        if offset < 0 or length < 0 or offset + length > self.shape.plaintext_bytes:
            raise UsageError("this range lies outside the stream")
        if length == 0:
            return range(0)
        room = self.shape.segment_bytes - TAG_BYTES
        return range((offset + HEADER_BYTES) // room, (offset + length - 1 + HEADER_BYTES) // room + 1)


def open_stream(
    source: Source,
    *,
    ciphertext_bytes: int,
    key: bytes | bytearray,
    aad: bytes,
    segment_bytes: int,
    lanes: int | None = None,
) -> Stream:
    """Read the header of a stream and derive its key; nothing is proved before a segment opens.

    Where answers take long to come, more `lanes` than processors pay off.

    Raises `MalformedArtifact` for lengths or a header that no stream has.
    """
    shape = Shape(ciphertext_bytes, segment_bytes)
    header = bytearray(HEADER_BYTES)
    source.read_into(memoryview(header), 0)
    if header[0] != HEADER_BYTES:
        raise MalformedArtifact("this is not the header of a stream")
    salt, prefix = bytes(header[1 : 1 + SALT_BYTES]), bytes(header[1 + SALT_BYTES :])
    return Stream(shape, source, prefix, _stream_cipher(key, salt, aad), lanes)


def decrypt_into(stream: Stream, sink: Sink, *, threads: int | None = None) -> None:
    """Decrypt all of `stream` into `sink`, by `threads` threads (default: the stream's lanes).

    Every segment is verified. Raises `SealBroken` if one does not open; what `sink` holds then is worth nothing.
    """
    _shared_out(stream.shape, range(stream.shape.segments), _writing(stream, sink), threads or stream.lanes)


def _writing(stream: Stream, sink: Sink) -> _Work:
    def work(number: int, sealed: memoryview, plain: memoryview) -> None:
        length = stream.segment_into(number, sealed, plain)
        sink(plain[:length], stream.shape.place(number)[1])

    return work


def read_into(stream: Stream, buffer: memoryview, offset: int, *, threads: int | None = None) -> None:
    """Fill `buffer` with the plaintext from `offset`; segments that lie in it wholly are decrypted in their place.

    Raises `UsageError` for a range outside the stream, `SealBroken` if a segment does not open; `buffer` is then
    overwritten with zeros.
    """
    end = offset + len(buffer)

    def work(number: int, sealed: memoryview, plain: memoryview) -> None:
        _, start, length = stream.shape.place(number)
        if offset <= start and start + length <= end:
            stream.segment_into(number, sealed, buffer[start - offset : start - offset + length])
            return
        stream.segment_into(number, sealed, plain)
        first, last = max(start, offset), min(start + length, end)
        buffer[first - offset : last - offset] = plain[first - start : last - start]

    try:
        _shared_out(stream.shape, stream.span(offset, len(buffer)), work, threads or stream.lanes)
    except BaseException:
        _wipe(buffer)
        raise


def _shared_out(shape: Shape, numbers: range, work: _Work, threads: int | None) -> None:
    """`work` on each segment of `numbers`, with room for a segment of ciphertext and one of plaintext in each thread."""
    room = 2 * min(shape.segment_bytes, shape.ciphertext_bytes)
    most = max(1, SCRATCH_BYTES // room)
    workers = min(threads or len(os.sched_getaffinity(0)), len(numbers), most)
    stop = Event()
    if workers <= 1:
        _share(shape, numbers, work, stop)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="open") as pool:
        shares = [numbers[first::workers] for first in range(workers)]
        done = [pool.submit(_share, shape, share, work, stop) for share in shares]
        try:
            for future in done:
                future.result()
        except BaseException:  # an interrupt, too, must not wait for the rest
            stop.set()
            raise


def _share(shape: Shape, numbers: range, work: _Work, stop: Event) -> None:
    sealed, plain = _buffers(shape)
    try:
        for number in numbers:
            if stop.is_set():
                return
            work(number, sealed, plain)
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
