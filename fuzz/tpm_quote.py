"""TPM quotes: the record, TPMS_ATTEST, TPMT_SIGNATURE, TPMT_PUBLIC; the first byte chooses the structure."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.records import codec
    from strongroom.records.tpm import TpmQuote
    from strongroom.tee.tpm.parse import parse_attest, parse_key, parse_quote, parse_signature
    from strongroom_sim.tpm import Tpm, TpmMaker

PARSERS = (parse_quote, parse_attest, parse_signature, parse_key)


def one(data: bytes) -> None:
    if data:
        with suppress(StrongroomError):
            PARSERS[data[0] % len(PARSERS)](data[1:])


def seeds() -> list[bytes]:
    quote = Tpm(TpmMaker.generate(now=samples.NOW), samples.NOW).quote(bytes(32))
    record = codec.decode(TpmQuote, quote)
    return [b"\0" + quote, b"\1" + record.attest, b"\2" + record.signature, b"\3" + record.ak]


if __name__ == "__main__":
    run(one, seeds)
