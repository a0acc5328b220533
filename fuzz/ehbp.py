"""The sealed channel: key configuration, frames of a request and of an answer, headers."""

from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from harness import instrumented, run

with instrumented():
    from strongroom.channel import ehbp
    from strongroom.errors import StrongroomError

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        ehbp.parse_key_config(data)
    with suppress(StrongroomError):
        ehbp.parse_hex32(data.decode("latin-1"), "header")
    with suppress(StrongroomError):
        ehbp.RequestOpener(KEY, data[:32]).open(data[32:])
    with suppress(StrongroomError):
        opener = ehbp.ResponseOpener(bytes(32), bytes(32), bytes(32))
        for start in range(0, len(data), 7):
            opener.feed(data[start : start + 7])
        opener.finish()


def seeds() -> list[bytes]:
    sealer = ehbp.RequestSealer(PUBLIC)
    answer = ehbp.ResponseSealer(bytes(32), bytes(32), bytes(32))
    request = sealer.encapsulation + sealer.seal(b"a request") + sealer.seal(b"and more")
    return [
        ehbp.encode_key_config(PUBLIC),
        bytes(32).hex().encode(),
        request,
        answer.seal(b"an answer") + answer.seal(b""),
    ]


if __name__ == "__main__":
    run(one, seeds)
