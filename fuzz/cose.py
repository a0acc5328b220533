"""CBOR items, COSE_Sign1 messages and COSE keys; whatever CBOR is read is written and read again as the same."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.crypto import cbor, cose
    from strongroom.crypto.signatures import generate_p384
    from strongroom.errors import StrongroomError

KEY = generate_p384()


def one(data: bytes) -> None:
    for open_lengths in (False, True):
        with suppress(StrongroomError):
            value = cbor.decode(data, tags={cose.TAG}, open_lengths=open_lengths)
            again = cbor.encode(value)
            if cbor.encode(cbor.decode(again, tags={cose.TAG})) != again:
                raise AssertionError("an item that is not written as it was read")
    with suppress(StrongroomError):
        cose.verify(cose.parse(data), KEY.public_key(), cose.Algorithm.ES384)
    with suppress(StrongroomError):
        cose.key_from_cose(data, cose.Algorithm.ES384)
    with suppress(StrongroomError):
        cose.key_from_point(data, cose.Algorithm.ES384)


def seeds() -> list[bytes]:
    numbers = KEY.public_key().public_numbers()
    x, y = (number.to_bytes(48, "big") for number in (numbers.x, numbers.y))
    messages = [cose.sign(b"payload", KEY, cose.Algorithm.ES384, tagged=tagged) for tagged in (True, False)]
    value = {1: [True, None, {"a": b"b"}], -1: "text", b"key": 1 << 63}
    return [*messages, cbor.encode({1: 2, -1: 2, -2: x, -3: y}), b"\x04" + x + y, cbor.encode(value)]


if __name__ == "__main__":
    run(one, seeds)
