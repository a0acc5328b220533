"""Credits: the text that travels, and a purchase under way as it lies beside a wallet."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.channel import credit
    from strongroom.errors import StrongroomError
    from strongroom.records import codec
    from strongroom.records.credit import CreditAnswer, CreditRequest, Purchase


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        text = data.decode("latin-1")
        if credit.parse_credit(text).to_text() != text:
            raise AssertionError(text)
    with suppress(StrongroomError):
        credit.put_into_json(data, "T")
    for kind in (CreditAnswer, CreditRequest, Purchase):
        with suppress(StrongroomError):
            codec.decode(kind, data)


def seeds() -> list[bytes]:
    made = credit.Credit(bytes(32), bytes(32), bytes(range(32)), bytes(256))
    return [
        made.to_text().encode(),
        b'{"messages":[]}',
        codec.encode(CreditRequest("ada", (bytes(256),))),
        codec.encode(CreditAnswer((bytes(256),), 5)),
        codec.encode(Purchase(bytes(32), "ada", (b"s",), (b"p",), (b"i",), (b"b",))),
    ]


if __name__ == "__main__":
    run(one, seeds)
