"""SGX quotes of version 3, with a chain and by PPID, bare and with what a device leaves behind them."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.tee.sgx.parse import parse_quote, trim
    from strongroom_sim.sgx import SgxEnclave


def one(data: bytes) -> None:
    for read in (parse_quote, lambda blob: parse_quote(trim(blob))):
        with suppress(StrongroomError):
            read(data)


def seeds() -> list[bytes]:
    enclave = SgxEnclave(samples.installation(), mrenclave=bytes(32))
    quote = enclave.quote(bytes(64))
    return [quote, quote + bytes(16), enclave.quote(bytes(64), by_ppid=True)]


if __name__ == "__main__":
    run(one, seeds)
