"""Cells over HTTP.

Knows: paths and bodies. Does not know: any rule (`release.cells`), or how owners sign (`services.broker`, which mounts
these routes and gives `owned`). Workers' requests are signed envelopes, each of which proves itself.
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
from strongroom.records.digest import Digest
from strongroom.release import wire
from strongroom.release.cells import Cells
from strongroom.services.problems import answer, read_body

log = logging.getLogger("strongroom.broker")

OwnerVerb = Callable[[Request, bytes, Digest, int], Any]


def cell_routes(
    cells: Cells,
    clock: Callable[[], float],
    owned: Callable[[OwnerVerb], Any],
    witnessed: Callable[[CellAnswer], CellAnswer],
) -> list[Route]:
    """The paths of `cells`; `owned` makes an endpoint that first asks which owner speaks, `witnessed` lets an answer leave."""
    one = f"{wire.CELLS_PATH}/{{id:path}}"  # TENANT/NAME has a slash

    def create(_: Request, body: bytes, who: Digest, now: int) -> Cell:
        return cells.create(codec.decode(wire.CellCreation, body), who=who, now=now)

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
        Route(wire.CELLS_PATH, owned(lambda *_: wire.CellList(cells.all())), methods=["GET"]),
        Route(wire.CELLS_PATH, owned(create), methods=["POST"]),
        Route(one, owned(lambda request, *_: cells.show(request.path_params["id"])), methods=["GET"]),
        Route(f"{one}/advance", change(cells.advance), methods=["POST"]),
        Route(f"{one}/spend", change(cells.spend), methods=["POST"]),
        Route(f"{one}/look", look, methods=["POST"]),
    ]
