"""What peers answer instead of a yes: problems of a broker, frames of an engine."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.engines import wire
    from strongroom.errors import AppraisalRefused, StrongroomError
    from strongroom.release.problem import from_problem, to_problem


def one(data: bytes) -> None:
    from_problem(data, 403).as_dict()
    for side in (wire.FROM_ENGINE, wire.FROM_WORKER):
        with suppress(StrongroomError):
            for frame in wire.FrameReader(side).feed(data):
                wire.from_json(frame.payload)


def seeds() -> list[bytes]:
    refused = to_problem(AppraisalRefused("no", failed=("tdx.tcb", "policy.image")))
    return [refused, wire.pack(wire.Kind.FAILED, 1, b'{"message":"x"}'), wire.pack(wire.Kind.GENERATE, 1, b"{}")]


if __name__ == "__main__":
    run(one, seeds)
