"""TPM evidence of other tools, what Google's certificates say, and enrolments; the first byte chooses the form."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.records import codec
    from strongroom.tee.tpm import read_attestation, read_coco, read_raw_quote, read_tpm2_tools
    from strongroom.tee.tpm.enrol import open_enrolment
    from strongroom.tee.tpm.instance import parse_instance
    from strongroom_sim.broken.tpm import enrolled
    from strongroom_sim.tpm import Tpm, TpmMaker

MACHINE = bytes.fromhex("301d0c017a0201050c01700201060c0169a00c300aa003020100a1030101ff")


def _json(data: bytes) -> None:
    document = codec.parse_json(data)
    if isinstance(document, dict):
        with suppress(StrongroomError):
            read_coco(document)
        read_raw_quote(document.get("tpm_quote"), public=b"")


READERS = (
    read_attestation,
    _json,
    lambda data: read_tpm2_tools(b"", b"", data, b""),
    parse_instance,
    lambda data: open_enrolment(data, [], samples.NOW),
)


def one(data: bytes) -> None:
    if data:
        with suppress(StrongroomError):
            READERS[data[0] % len(READERS)](data[1:])


def seeds() -> list[bytes]:
    tpm = Tpm(TpmMaker.generate(now=samples.NOW), samples.NOW)
    quote = b"\x0a\x02ab\x12\x12\x0a\x01a\x12\x01b\x1a\x0a\x08\x0b\x12\x06\x08\x01\x12\x02cd"
    registers = (1).to_bytes(4, "little") + b"\x0b\x00\x03\x01\0\0\0\0" + bytes(120)
    registers += (1).to_bytes(4, "little") * 2 + b"\x20\0" + bytes(526)
    note = enrolled(tpm, samples.P256, samples.NOW).enrolment
    json = b'{"ak_public":"AA","tpm_quote":{"message":"00","signature":"00","pcrs":["00"]}}'
    return [b"\0" + quote, b"\1" + json, b"\2" + registers, b"\3" + MACHINE, b"\4" + note]


if __name__ == "__main__":
    run(one, seeds)
