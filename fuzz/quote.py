"""TDX quotes of versions 4 and 5, bare and with what a kernel leaves behind them."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.tee.tdx.parse import parse_quote, trim


def one(data: bytes) -> None:
    for read in (parse_quote, lambda blob: parse_quote(trim(blob))):
        with suppress(StrongroomError):
            read(data)


def seeds() -> list[bytes]:
    quote = samples.bundle().evidence.quote
    return [quote, quote + bytes(16)]


if __name__ == "__main__":
    run(one, seeds)
