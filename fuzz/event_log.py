"""Event logs in the TCG2 crypto-agile form, of TPMs and of CCELs: parsed, replayed, judged, interpreted, explained."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.errors import StrongroomError
    from strongroom.records.verdict import Status
    from strongroom.tee.eventlog import Style, check_log, difference, inputs, parse_log, replay
    from strongroom.tee.steps import Steps
    from strongroom_sim.eventlog import EventLog, serialise


def one(data: bytes) -> None:
    for style in Style:
        with suppress(StrongroomError):
            read(data, style)


def read(data: bytes, style: Style) -> None:
    log = parse_log(data, style)
    written = serialise(log)
    if parse_log(written, style) != log:
        raise AssertionError("a log does not survive being written and read again")
    bank = log.algorithms[-1]
    registers = replay(log, bank)
    steps = Steps()
    check_log("fuzz", data, registers, bank, style, steps)
    if registers and bank != "sha1" and steps.checks[1].status is not Status.PASS:
        raise AssertionError("a log does not replay to its own replay")
    rows = inputs(log, bank)
    if difference(rows, rows):
        raise AssertionError("a log differs from itself")
    difference(rows[::2], rows[1:])


def seeds() -> list[bytes]:
    made = EventLog().boot()
    cc = EventLog(Style.CCEL, ("sha384",)).unified_boot()
    return [
        made.serialised(),
        EventLog(Style.TPM, ("sha1", "sha256")).startup_locality(3).boot().serialised(),
        cc.serialised(fill=b"\xff", size=16384),
        EventLog(Style.CCEL, ("sha384",)).boot().serialised(fill=b"\0", size=16384),
    ]


if __name__ == "__main__":
    run(one, seeds)
