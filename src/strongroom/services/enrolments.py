"""Enrolment of TPMs over HTTP.

Knows: paths and bodies. Does not know: any rule (`release.enrolments`). Anybody may ask: who gets a note proves itself by its TPM.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from strongroom.records import codec
from strongroom.records.enrolment import EnrolmentAnswer, EnrolmentRequest
from strongroom.release import wire
from strongroom.release.broker import Broker
from strongroom.services.problems import answer, read_body

log = logging.getLogger("strongroom.broker")


def enrolment_routes(broker: Broker, clock: Callable[[], float]) -> list[Route]:
    """The two steps of an enrolment at `broker`; `clock` gives Unix seconds."""

    async def begin(request: Request) -> Response:
        wanted = codec.decode(EnrolmentRequest, await read_body(request, wire.MAX_POLICY_BYTES))
        return answer(await run_in_threadpool(broker.enrolments.begin, wanted, now=int(clock())))

    async def finish(request: Request) -> Response:
        given = codec.decode(EnrolmentAnswer, await read_body(request, wire.MAX_SMALL_BYTES))
        done = await run_in_threadpool(broker.enrolments.finish, given, now=int(clock()))
        done = await run_in_threadpool(broker.witnessed, done)
        log.info("yes event=enrolment leaf=%d", done.proof.index)
        return answer(done)

    return [
        Route(wire.ENROLMENTS_PATH, begin, methods=["POST"]),
        Route(f"{wire.ENROLMENTS_PATH}/answers", finish, methods=["POST"]),
    ]
