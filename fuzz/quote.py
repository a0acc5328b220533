"""TDX quotes of versions 4 and 5, with each body, bare and with what a kernel leaves behind them."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.tee.tdx.parse import parse_quote, trim
    from strongroom_sim import Chip


def one(data: bytes) -> None:
    for read in (parse_quote, lambda blob: parse_quote(trim(blob))):
        with suppress(StrongroomError):
            read(data)


def seeds() -> list[bytes]:
    quote = samples.bundle().evidence.quote
    newer = Chip(samples.installation(), mrtd=bytes(48), tee_tcb_svn2=bytes(16))
    extended = Chip(samples.installation(), mrtd=bytes(48), tee_tcb_svn2=bytes(16), service_tds=bytes(237))
    return [quote, quote + bytes(16), newer.quote(bytes(64)), extended.quote(bytes(64))]


if __name__ == "__main__":
    run(one, seeds)
