"""Streams: written as Tink writes them, read as Tink reads them, and refused when anything moved."""

import io
import os
from collections.abc import Callable
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.bench.peers import tink_streaming
from strongroom.crypto import segments
from strongroom.errors import MalformedArtifact, SealBroken, UsageError

KEY = bytes(range(32))
AAD = b"this stream's place"
SMALL = 128

sizes = st.one_of(st.integers(0, 700), st.sampled_from([71, 72, 73, 183, 184, 185, 296]))


class Held:
    """Ciphertext in memory as a source."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_into(self, buffer: memoryview, offset: int) -> None:
        part = self.data[offset : offset + len(buffer)]
        if len(part) != len(buffer):
            raise SealBroken("a blob ends before its size")
        buffer[:] = part


def sealed(plain: bytes, *, segment_bytes: int = SMALL, key: bytes = KEY, aad: bytes = AAD) -> bytes:
    sink = io.BytesIO()
    count = segments.encrypt(io.BytesIO(plain), sink, key=key, aad=aad, segment_bytes=segment_bytes, random=os.urandom)
    assert count == len(plain)
    return sink.getvalue()


def stream_of(data: bytes, *, segment_bytes: int = SMALL, key: bytes = KEY, aad: bytes = AAD) -> segments.Stream:
    return segments.open_stream(Held(data), ciphertext_bytes=len(data), key=key, aad=aad, segment_bytes=segment_bytes)


def opened(data: bytes, *, threads: int = 2, segment_bytes: int = SMALL, key: bytes = KEY, aad: bytes = AAD) -> bytes:
    stream = stream_of(data, segment_bytes=segment_bytes, key=key, aad=aad)
    result = bytearray(stream.shape.plaintext_bytes)
    segments.decrypt_into(stream, into(result), threads=threads)
    return bytes(result)


def into(result: bytearray) -> segments.Sink:
    def sink(data: memoryview, offset: int) -> None:
        result[offset : offset + len(data)] = data

    return sink


PEER_SIZES = [
    (4096, 0),
    (4096, 4040),
    (4096, 4041),
    (4096, 8120),
    (4096, 50_000),
    (1 << 20, 3_000_000),
    (1 << 22, 5_000_000),
]


@pytest.mark.parametrize(("segment_bytes", "length"), PEER_SIZES)
@pytest.mark.interop("stream", "strongroom", "tink (PyPI)")
def test_tink_reads_what_we_write(segment_bytes: int, length: int):
    plain = os.urandom(length)
    data = io.BytesIO(sealed(plain, segment_bytes=segment_bytes))
    with tink_streaming(KEY, segment_bytes).new_decrypting_stream(data, AAD) as stream:
        assert stream.read() == plain


@pytest.mark.parametrize(("segment_bytes", "length"), PEER_SIZES)
@pytest.mark.interop("stream", "tink (PyPI)", "strongroom")
def test_we_read_what_tink_writes(segment_bytes: int, length: int):
    plain, kept = os.urandom(length), io.BytesIO()
    kept.close = lambda: None  # type: ignore[method-assign]  # Tink closes what it writes to
    with tink_streaming(KEY, segment_bytes).new_encrypting_stream(kept, AAD) as stream:
        stream.write(plain)
    assert opened(kept.getvalue(), segment_bytes=segment_bytes) == plain


@settings(max_examples=50, deadline=None)
@given(length=sizes, threads=st.integers(1, 3))
def test_what_was_sealed_comes_back_by_any_number_of_threads(length: int, threads: int):
    plain = os.urandom(length)
    assert opened(sealed(plain), threads=threads) == plain


@settings(max_examples=50, deadline=None)
@given(length=sizes, data=st.data())
def test_any_range_can_be_read_alone(length: int, data: st.DataObject):
    plain = os.urandom(length)
    start = data.draw(st.integers(0, length))
    end = data.draw(st.integers(start, length))
    assert stream_of(sealed(plain)).read(start, end - start) == plain[start:end]


@settings(max_examples=50, deadline=None)
@given(length=sizes, threads=st.integers(1, 4), data=st.data())
def test_any_range_is_decrypted_into_its_place_and_nowhere_else(length: int, threads: int, data: st.DataObject):
    plain = bytes(number % 251 for number in range(length))
    offset = data.draw(st.integers(0, length))
    count = data.draw(st.integers(0, length - offset))
    room = bytearray(b"\xaa" * (count + 2))
    segments.read_into(stream_of(sealed(plain)), memoryview(room)[1 : count + 1], offset, threads=threads)
    assert room == b"\xaa" + plain[offset : offset + count] + b"\xaa"


def test_a_buffer_holds_nothing_after_a_segment_did_not_open():
    data = bytearray(sealed(b"\xff" * 1000))
    data[-1] ^= 1
    room = bytearray(b"\xaa" * 1000)
    with pytest.raises(SealBroken):
        segments.read_into(stream_of(bytes(data)), memoryview(room), 0, threads=2)
    assert room == bytes(1000)


def test_only_segments_of_the_range_are_read():
    data, read = sealed(bytes(1000)), []

    class Counted(Held):
        def read_into(self, buffer: memoryview, offset: int) -> None:
            read.append(offset)
            super().read_into(buffer, offset)

    stream = segments.open_stream(Counted(data), ciphertext_bytes=len(data), key=KEY, aad=AAD, segment_bytes=SMALL)
    read.clear()
    segments.read_into(stream, memoryview(bytearray(150)), 100, threads=1)
    assert read == [SMALL, 2 * SMALL]


@pytest.mark.parametrize("at", [0, 1, 3])
def test_what_a_sink_raises_ends_the_sealing(at: int):
    class Full(io.BytesIO):
        writes = 0

        def write(self, data: object) -> int:
            self.writes += 1
            if self.writes > at:
                raise OSError(28, "No space left on device")
            return super().write(data)  # type: ignore[arg-type]

    with pytest.raises(OSError, match="No space"):
        segments.encrypt(io.BytesIO(bytes(300)), Full(), key=KEY, aad=AAD, segment_bytes=SMALL, random=os.urandom)


@given(length=sizes, data=st.data())
def test_a_flipped_bit_anywhere_is_refused(length: int, data: st.DataObject):
    stream = bytearray(sealed(os.urandom(length)))
    position = data.draw(st.integers(0, len(stream) - 1))
    stream[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((SealBroken, MalformedArtifact)):
        opened(bytes(stream))


@settings(max_examples=50, deadline=None)
@given(length=st.integers(0, 700), data=st.data())
def test_a_stream_cut_anywhere_is_refused(length: int, data: st.DataObject):
    stream = sealed(os.urandom(length))
    kept = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises((SealBroken, MalformedArtifact)):
        opened(stream[:kept])


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:128] + s[256:384] + s[128:256] + s[384:],  # two segments change places
        lambda s: s[:256] + s[128:256] + s[256:],  # one is repeated
        lambda s: s[:128] + s[256:],  # one is left out
        lambda s: s[:384],  # cut where a segment ends
        lambda s: s + s[-128:],  # something follows the last
        lambda s: s + bytes(40),
    ],
)
def test_segments_that_moved_are_refused(change: Callable[[bytes], bytes]):
    stream = sealed(bytes(4 * (SMALL - 16) - 40))
    assert len(stream) == 4 * SMALL
    with pytest.raises(SealBroken):
        opened(change(stream))


def test_a_segment_of_another_stream_under_the_same_key_is_refused():
    one, other = sealed(bytes(400)), sealed(bytes(400))
    with pytest.raises(SealBroken, match="does not open"):
        opened(one[:128] + other[128:256] + one[256:])


def test_a_stream_opens_only_in_its_own_place_and_under_its_own_key():
    stream = sealed(b"weights")
    with pytest.raises(SealBroken):
        opened(stream, aad=b"another place")
    with pytest.raises(SealBroken):
        opened(stream, key=bytes(32))


def test_a_stream_opens_only_at_its_own_segment_size():
    with pytest.raises(SealBroken):
        opened(sealed(bytes(400)), segment_bytes=256)


def test_a_broken_segment_is_named():
    stream = bytearray(sealed(bytes(400)))
    stream[300] ^= 1
    with pytest.raises(SealBroken) as caught:
        opened(bytes(stream), threads=1)
    assert caught.value.detail == "segment 2"


def test_one_broken_segment_stops_all_threads():
    data, stop, written = bytearray(sealed(bytes(1000))), Event(), bytearray(1000)
    data[100] ^= 1
    stream = stream_of(bytes(data))
    with pytest.raises(SealBroken):
        segments._share(stream.shape, range(0, 9, 2), segments._writing(stream, into(written)), stop)
    segments._share(stream.shape, range(1, 9, 2), segments._writing(stream, refuse), stop)
    assert stop.is_set()


def refuse(_data: memoryview, _offset: int) -> None:
    pytest.fail("a thread went on after another had found a broken segment")


@pytest.mark.parametrize("segment_bytes", [0, 127, 1 << 27])
def test_segment_sizes_outside_the_format_are_refused(segment_bytes: int):
    with pytest.raises(UsageError):
        sealed(b"", segment_bytes=segment_bytes)
    with pytest.raises(MalformedArtifact):
        segments.Shape(56, segment_bytes)


@pytest.mark.parametrize("length", [0, 1, 55, SMALL + 1, SMALL + 16, SMALL << 33])
def test_lengths_that_no_stream_has_are_refused(length: int):
    with pytest.raises(MalformedArtifact):
        segments.Shape(length, SMALL)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 11), (11, 0), (0, -1)])
def test_a_range_outside_the_stream_is_a_usage_error(offset: int, length: int):
    with pytest.raises(UsageError):
        stream_of(sealed(b"0123456789")).read(offset, length)


def test_each_stream_has_its_own_salt_and_prefix():
    assert sealed(b"")[:40] != sealed(b"")[:40]


def test_no_key_shows_in_the_form_of_an_open_stream():
    assert KEY.hex() not in repr(stream_of(sealed(b"x")))
    assert repr(stream_of(sealed(b"x"))) == "Stream(shape=Shape(ciphertext_bytes=57, segment_bytes=128))"
