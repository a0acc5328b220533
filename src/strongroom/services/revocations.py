"""Revocations and sweeps over HTTP.

Knows: paths and bodies, and whose a subject is: a key and a policy are their tenant's, artifacts, workers and machines
everybody's, so that only who acts for every tenant revokes them. Does not know: any rule (`release.revocations`,
`release.sweep`), or how administrators sign (`owned`).
"""

from __future__ import annotations

from starlette.requests import Request

from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.revocation import (
    About,
    LiftRequest,
    RevocationList,
    RevocationRequest,
    Revoked,
    Subject,
    SweepPage,
    SweepRequest,
)
from strongroom.release import wire
from strongroom.release.broker import Broker
from strongroom.release.roles import Caller, Verb
from strongroom.services.owned import Owned, OwnedRoute


def revocation_routes(broker: Broker, owned: Owned) -> list[OwnedRoute]:
    """What ends leases at `broker`."""
    found = broker.administration.revocations

    def listed(_request: Request, _body: bytes, caller: Caller, _now: int) -> RevocationList:
        return RevocationList(tuple(one for one in found.all() if caller.sees(*_names(one.subject))))

    def revoke(_: Request, body: bytes, caller: Caller, now: int) -> Revoked:
        wanted = codec.decode(RevocationRequest, body)
        return found.revoke(wanted.subject, reason=wanted.reason, who=_who(caller, wanted.subject), now=now)

    def lift(request: Request, body: bytes, caller: Caller, now: int) -> RevocationList:
        subject = codec.decode(LiftRequest, body).subject
        found.lift(subject, who=_who(caller, subject), now=now)
        return listed(request, body, caller, now)

    def sweep(_: Request, body: bytes, caller: Caller, now: int) -> SweepPage:
        wanted = codec.decode(SweepRequest, body)
        if broker.sweep is None or broker.present is None:
            raise UsageError("this broker cannot judge leases again", remedy="Open it with what it judges by.")
        who = caller.everywhere()
        if not wanted.after:
            broker.present.refresh()
        return broker.sweep.page(wanted.after, who=who, now=now, dry_run=wanted.dry_run)

    return [
        owned("GET", wire.REVOCATIONS_PATH, Verb.LEASES_LIST, listed),
        owned("POST", wire.REVOCATIONS_PATH, Verb.LEASES_REVOKE, revoke),
        owned("POST", f"{wire.REVOCATIONS_PATH}/lift", Verb.LEASES_REVOKE, lift),
        owned("POST", wire.SWEEPS_PATH, Verb.LEASES_REVOKE, sweep),
    ]


def _who(caller: Caller, subject: Subject) -> Digest:
    names = _names(subject)
    return caller.on(*names) if names else caller.everywhere()


def _names(subject: Subject) -> tuple[str, ...]:
    """Names that are the same tenant's as `subject`; none where it is nobody's own."""
    if subject.about in {About.KEY, About.POLICY}:
        return (subject.name,)
    if subject.about is About.TENANT and subject.name:
        return (f"{subject.name}/",)
    return ()
