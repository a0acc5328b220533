import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.engines import wire
from strongroom.engines.wire import Frame, FrameReader, Kind
from strongroom.errors import MalformedMessage

FRAMES = st.builds(
    Frame, st.sampled_from(sorted(wire.FROM_ENGINE)), st.integers(0, wire.MAX_NUMBER), st.binary(max_size=200)
)
QUICK = settings(max_examples=50, deadline=None)


@QUICK
@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 2000), max_size=8))
def test_frames_arrive_whole_however_the_stream_is_cut(frames: list[Frame], cuts: list[int]):
    stream = b"".join(wire.pack(*frame) for frame in frames)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader(wire.FROM_ENGINE)
    pieces = [stream[low:high] for low, high in itertools.pairwise(places)]
    assert [frame for piece in pieces for frame in reader.feed(piece)] == frames


@QUICK
@given(st.binary(max_size=400))
def test_any_bytes_are_frames_or_incomplete_or_refused(data: bytes):
    try:
        frames = FrameReader(wire.FROM_WORKER).feed(data)
    except MalformedMessage:
        return
    assert data.startswith(b"".join(wire.pack(*frame) for frame in frames))


def test_an_incomplete_frame_waits():
    reader = FrameReader(wire.FROM_ENGINE)
    whole = wire.pack(Kind.CHUNK, 7, b"abc")
    assert reader.feed(whole[:-1]) == []
    assert reader.feed(whole[-1:]) == [Frame(Kind.CHUNK, 7, b"abc")]


@pytest.mark.parametrize("kind", [0, 4, 15, 21, 255])
def test_an_unknown_kind_is_refused(kind: int):
    with pytest.raises(MalformedMessage):
        FrameReader(frozenset(Kind)).feed(bytes(8) + bytes([kind]))


def test_each_side_refuses_the_kinds_that_only_itself_may_send():
    with pytest.raises(MalformedMessage):
        FrameReader(wire.FROM_ENGINE).feed(wire.pack(Kind.GENERATE, 1))
    with pytest.raises(MalformedMessage):
        FrameReader(wire.FROM_WORKER).feed(wire.pack(Kind.CHUNK, 1))


def test_an_oversize_frame_is_refused_by_its_header_alone():
    header = (wire.MAX_PAYLOAD + 1).to_bytes(4, "big") + bytes(4) + bytes([Kind.CHUNK])
    with pytest.raises(MalformedMessage):
        FrameReader(wire.FROM_ENGINE).feed(header)


def test_an_oversize_payload_is_not_packed():
    with pytest.raises(MalformedMessage):
        wire.pack(Kind.CHUNK, 1, bytes(wire.MAX_PAYLOAD + 1))


@pytest.mark.parametrize("value", [float("nan"), {1: object()}, {"x": b"bytes"}])
def test_what_json_cannot_say_is_refused(value: object):
    with pytest.raises(MalformedMessage):
        wire.to_json(value)


def test_half_of_a_surrogate_pair_travels_as_an_escape():
    assert wire.from_json(wire.to_json({"x": "\ud800"})) == {"x": "\ud800"}


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"1", b"\xff", b"[" * 100_000])
def test_a_payload_that_is_no_json_object_is_refused(payload: bytes):
    with pytest.raises(MalformedMessage):
        wire.from_json(payload)
