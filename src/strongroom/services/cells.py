"""Cells over HTTP.

Knows: paths and bodies. Does not know: any rule (`release.cells`), or how administrators are asked who they are (`owned`).
Workers' requests are signed envelopes, each of which proves itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from strongroom.records import codec
from strongroom.records.cell import Cell, CellAnswer
from strongroom.release import wire
from strongroom.release.cells import Cells
from strongroom.release.roles import Caller, Verb
from strongroom.services.owned import Owned
from strongroom.services.problems import answer, read_body

log = logging.getLogger("strongroom.broker")


def cell_routes(
    cells: Cells,
    clock: Callable[[], float],
    owned: Owned,
    witnessed: Callable[[CellAnswer], CellAnswer],
) -> list[Route]:
    """The paths of `cells`; `owned` makes those of administrators, `witnessed` lets an answer leave."""
    one = f"{wire.CELLS_PATH}/{{id:path}}"  # TENANT/NAME has a slash

    def create(_: Request, body: bytes, caller: Caller, now: int) -> Cell:
        wanted = codec.decode(wire.CellCreation, body)
        return cells.create(wanted, who=caller.on(wanted.cell_id), now=now)

    def show(request: Request, _: bytes, caller: Caller, _now: int) -> Cell:
        caller.on(request.path_params["id"])
        return cells.show(request.path_params["id"])

    def every(_request: Request, _body: bytes, caller: Caller, _now: int) -> wire.CellList:
        return wire.CellList(tuple(cell for cell in cells.all() if caller.sees(cell.id)))

    def change(verb: Callable[..., CellAnswer]) -> Callable[[Request], Any]:
        def settled(cell_id: str, body: bytes) -> CellAnswer:
            return witnessed(verb(cell_id, body, now=int(clock())))

        async def endpoint(request: Request) -> Response:
            body = await read_body(request, wire.MAX_SMALL_BYTES)
            given = await run_in_threadpool(settled, request.path_params["id"], body)
            log.info("yes event=cell grants=%d leaf=%d", given.grant is not None, given.proof.index)
            return answer(given)

        return endpoint

    async def look(request: Request) -> Response:
        body = await read_body(request, wire.MAX_SMALL_BYTES)
        return answer(await run_in_threadpool(cells.look, request.path_params["id"], body, now=int(clock())))

    return [
        owned("GET", wire.CELLS_PATH, Verb.CELLS_LIST, every),
        owned("POST", wire.CELLS_PATH, Verb.CELLS_CREATE, create),
        owned("GET", one, Verb.CELLS_LIST, show),
        Route(f"{one}/advance", change(cells.advance), methods=["POST"]),
        Route(f"{one}/spend", change(cells.spend), methods=["POST"]),
        Route(f"{one}/look", look, methods=["POST"]),
    ]
