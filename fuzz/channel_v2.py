"""Version 2 of the sealed channel: requests, answers, frames and heads."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.channel import heads, v2
    from strongroom.crypto.hpke import ReleaseKey
    from strongroom.errors import StrongroomError
    from strongroom.records import codec
    from strongroom.records.digest import digest_bytes

KEY = ReleaseKey.from_bytes(bytes(range(96)))
KEYSET = digest_bytes(b"a keyset")
SECRET, HEAD = bytes(32), bytes(v2.HEAD_BYTES)


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        v2.RequestOpener(KEY, KEYSET, data)
    with suppress(StrongroomError):
        opener = v2.RequestSealer(SECRET, HEAD).opener()
        for start in range(0, len(data), 7):
            opener.feed(data[start : start + 7])
        opener.finish()
    with suppress(StrongroomError):
        v2.FrameOpener(bytes(32), bytes(12)).feed(data)
    for decode in (heads.decode_request, heads.decode_answer):
        with suppress(StrongroomError):
            decode(data)


def seeds() -> list[bytes]:
    request = codec.encode(heads.RequestHead("POST", "/v1/chat/completions", (("authorization", "Bearer x"),)))
    answer = codec.encode(heads.AnswerHead(200, (("content-type", "text/event-stream"),)))
    sealed = v2.RequestSealer.to(v2.Peer(KEY.public, KEYSET)).seal(request, b"a body", bucket=8)
    frames = v2.FrameSealer(bytes(32), bytes(12), bucket=8)
    return [request, answer, sealed, frames.seal(answer) + frames.seal(b"more") + frames.seal(b"", final=True)]


if __name__ == "__main__":
    run(one, seeds)
