"""Oblivious HTTP: key configuration lists, requests whole and in chunks, answers in chunks."""

from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from harness import instrumented, run

with instrumented():
    from strongroom.channel import ohttp
    from strongroom.errors import StrongroomError

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        ohttp.parse_key_list(data)
    for labels in (ohttp.WHOLE, ohttp.CHUNKED):
        with suppress(StrongroomError):
            opener = ohttp.RequestOpener(KEY, data[: ohttp.OPENING_BYTES], labels=labels)
            opener.open(data[ohttp.OPENING_BYTES :])
    with suppress(StrongroomError):
        answer = ohttp.RequestSealer(PUBLIC).opener(bytes(32))
        for start in range(0, len(data), 7):
            answer.feed(data[start : start + 7])
        answer.finish()


def seeds() -> list[bytes]:
    sealed = [ohttp.RequestSealer(PUBLIC, labels=labels).seal(b"a request") for labels in (ohttp.WHOLE, ohttp.CHUNKED)]
    opener = ohttp.RequestOpener(KEY, sealed[1][: ohttp.OPENING_BYTES])
    opener.open(sealed[1][ohttp.OPENING_BYTES :])
    answer = opener.respond(bytes(32))
    return [ohttp.encode_key_list(PUBLIC), *sealed, answer.chunks(b"an answer") + answer.final()]


if __name__ == "__main__":
    run(one, seeds)
