"""Administrators over HTTP: list, add, remove.

Knows: paths and bodies. Does not know: any rule (`release.administrators`, `release.roles`).
"""

from __future__ import annotations

from starlette.requests import Request

from strongroom.errors import MalformedRecord
from strongroom.records.digest import Digest, is_digest
from strongroom.records.envelope import Envelope
from strongroom.release import wire
from strongroom.release.administrators import Administrators
from strongroom.release.roles import EVERY, Caller, Verb
from strongroom.services.owned import Owned, OwnedRoute


def administrator_routes(everybody: Administrators, owned: Owned) -> list[OwnedRoute]:
    """The paths of `everybody` who administers a broker."""

    def listed(_request: Request, _body: bytes, caller: Caller, _now: int) -> wire.AdministratorList:
        """Their own tenant's, and those who act for every tenant and so for theirs."""
        mine = caller.administrator.tenant
        shown = (one for one in everybody.all() if mine == EVERY or one.tenant in {EVERY, mine})
        return wire.AdministratorList(tuple(shown))

    def add(_: Request, body: bytes, caller: Caller, now: int) -> wire.AdministratorList:
        made = everybody.add(Envelope.from_bytes(body), who=caller.everywhere(), now=now)
        return wire.AdministratorList((made,))

    def remove(request: Request, _: bytes, caller: Caller, now: int) -> wire.AdministratorList:
        name = request.path_params["id"]
        if not is_digest(name):
            raise MalformedRecord("an administrator is named by the fingerprint of their key")
        return wire.AdministratorList((everybody.remove(Digest(name), who=caller.everywhere(), now=now),))

    return [
        owned("GET", wire.ADMINISTRATORS_PATH, Verb.ADMINISTRATORS_LIST, listed),
        owned("POST", wire.ADMINISTRATORS_PATH, Verb.ADMINISTRATORS_CHANGE, add),
        owned("DELETE", f"{wire.ADMINISTRATORS_PATH}/{{id}}", Verb.ADMINISTRATORS_CHANGE, remove),
    ]
