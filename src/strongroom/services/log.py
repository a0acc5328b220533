"""A log as static files over HTTP: the read path of C2SP tlog-tiles.

Knows: /checkpoint, /tile/<L>/<N>[.p/<W>], /tile/entries/<N>[.p/<W>]. Does not know: who writes the log. Anybody may
read it. Not covered: `/.well-known`, compression, pruning.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from strongroom.errors import LogInvalid, MalformedRecord
from strongroom.receipts.tiles import parse_path
from strongroom.release.log import Log
from strongroom.release.stores.port import Store

IMMUTABLE = "public, max-age=31536000, immutable"


def log_routes(log: Log, store: Store) -> list[Route]:
    """The routes of `log`, whose leaves are in `store`."""

    async def checkpoint(_: Request) -> Response:
        text = await run_in_threadpool(log.checkpoint, store)
        return Response(text, media_type="text/plain; charset=utf-8", headers={"cache-control": "no-cache"})

    async def tile(request: Request) -> Response:
        try:
            wanted = parse_path(request.url.path.removeprefix("/"))
            content = await run_in_threadpool(log.tile, store, wanted)
        except (MalformedRecord, LogInvalid):
            raise HTTPException(404) from None
        return Response(content, media_type="application/octet-stream", headers={"cache-control": IMMUTABLE})

    return [Route("/checkpoint", checkpoint), Route("/tile/{path:path}", tile)]
