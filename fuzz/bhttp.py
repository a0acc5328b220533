"""Binary HTTP: requests at once, answers in pieces; what is read survives being written and read again."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.channel import bhttp
    from strongroom.errors import StrongroomError


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        request = bhttp.decode_request(data)
        if bhttp.decode_request(bhttp.encode_request(request, bucket=64)) != request:
            raise AssertionError(request)
    step = data[-1] + 1 if data else 1
    with suppress(StrongroomError):
        reader = bhttp.ResponseReader()
        content = b"".join(reader.feed(data[at : at + step]) for at in range(0, len(data), step))
        reader.finish()
        again = bhttp.ResponseReader()
        written = bhttp.encode_response(reader.status, reader.fields, content)
        if again.feed(written) != content or (again.status, again.fields) != (reader.status, reader.fields):
            raise AssertionError(reader.status)


def seeds() -> list[bytes]:
    fields = ((b"content-type", b"text/plain"), (b"x", b""))
    request = bhttp.Request(b"POST", b"https", b"worker", b"/v1/x?a=b", fields, b"hello")
    opened = bhttp.response_head(200, fields) + bhttp.content_piece(b"hello") + bhttp.RESPONSE_END
    return [
        bhttp.encode_request(request, bucket=64),
        b"\x02" + bhttp.encode_request(request)[1:],
        bhttp.encode_response(404, fields, b"none", bucket=64),
        opened,
        b"\x03\x40\x66\x01a\x01b\x00" + opened[1:],
    ]


if __name__ == "__main__":
    run(one, seeds)
