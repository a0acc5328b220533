"""Canonical event logs (TLV) of Container-Optimized OS."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.errors import StrongroomError
    from strongroom.tee.eventlog import Style, check_cel, interpret_cel, parse_cel, replay_cel
    from strongroom.tee.steps import Steps
    from strongroom_sim.eventlog import cos_cel, serialise_cel


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        cel = parse_cel(data)
        if serialise_cel(cel) != data:
            raise AssertionError("a canonical event log does not survive being written and read again")
        for bank in ("sha256", "sha384"):
            with suppress(StrongroomError):
                check_cel("fuzz", data, replay_cel(cel, bank), bank, Steps())
                interpret_cel(cel, bank)


def seeds() -> list[bytes]:
    contents = [(0, b"image"), (1, b"sha256:00"), (2, b"Never"), (4, b"run"), (5, b"A=B"), (9, b"\1"), (8, b"")]
    return [serialise_cel(cos_cel(contents)), serialise_cel(cos_cel(contents, Style.TPM, "sha256"))]


if __name__ == "__main__":
    run(one, seeds)
