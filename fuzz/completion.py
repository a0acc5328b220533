"""The end of an answer: splitting body from receipt, whole and in pieces, which must agree; and a user's reading of events."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import hashlib

    from strongroom.channel import completion, padding
    from strongroom.client.chat import Lines
    from strongroom.errors import StrongroomError

TYPES = ("application/json", "text/event-stream")


def one(data: bytes) -> None:
    step = data[0] + 1 if data else 1
    for kind in TYPES:
        with suppress(StrongroomError):
            body, receipt = completion.split(kind, data)
            splitter = completion.Splitter(kind)
            passed = b"".join(splitter.feed(data[at : at + step]) for at in range(0, len(data), step))
            rest, ended = splitter.finish()
            if passed + rest != data or (hashlib.sha256(body).digest(), receipt) != (
                ended.response_sha256,
                ended.sealed_receipt,
            ):
                raise AssertionError(kind)
    for pad in (padding.pad_event, padding.pad_json):
        with suppress(StrongroomError):
            pad(data)
    with suppress(StrongroomError):
        list(Lines().feed(data))


def seeds() -> list[bytes]:
    event = b'data: {"choices":[{"delta":{"content":"Paris"}}]}\n\n'
    stream = event + b"data: [DONE]\n\n" + completion.sse_trailer(b"receipt")
    odd = [
        b"data: %s\n\n" % event
        for event in (b"[]", b"5", b'{"error":"x"}', b'{"choices":[{"delta":null}]}', b'{"choices":5}')
    ]
    return [
        stream,
        completion.append_to_json(b'{"choices":[]}', b"receipt"),
        b'data: {"error":{"message":"x"}}\n\n',
        *odd,
    ]


if __name__ == "__main__":
    run(one, seeds)
