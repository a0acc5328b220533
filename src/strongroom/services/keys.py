"""A key's life, and dry runs, over HTTP.

Knows: paths and bodies. Does not know: any rule (`release.lifecycle`, `release.explain`), or how administrators sign
(`owned`).
"""

from __future__ import annotations

from starlette.requests import Request

from strongroom.records import codec
from strongroom.records.destruction import DestructionDocument
from strongroom.records.envelope import Envelope
from strongroom.records.explanation import ExplainRequest, Explanation, PolicyTrial
from strongroom.records.policy import Policy
from strongroom.release import wire
from strongroom.release.broker import Broker
from strongroom.release.roles import Caller, Verb
from strongroom.services.owned import Owned, OwnedRoute


def key_routes(broker: Broker, owned: Owned) -> list[OwnedRoute]:
    """The paths of `broker`."""
    life, explainer, one = broker.lifecycle, broker.explainer, f"{wire.KEYS_PATH}/{{id:path}}"

    def take(request: Request, body: bytes, caller: Caller, now: int) -> wire.KeyInfo:
        key_id = request.path_params["id"]
        return life.import_key(key_id, codec.decode(wire.KeyImport, body), who=caller.on(key_id), now=now)

    def order(request: Request, body: bytes, caller: Caller, now: int) -> wire.KeyList:
        key_id, wanted = request.path_params["id"], codec.decode(wire.RekeyOrder, body)
        return wire.KeyList(life.order(key_id, wanted, who=caller.on(key_id), now=now))

    def destroy(request: Request, _: bytes, caller: Caller, now: int) -> DestructionDocument:
        key_id = request.path_params["id"]
        return broker.witnessed(life.destroy(key_id, who=caller.on(key_id), now=now))

    def explain(_: Request, body: bytes, caller: Caller, now: int) -> Explanation:
        request = codec.decode(ExplainRequest, body)
        drafted = () if request.draft is None else (codec.decode(Policy, request.draft.payload).id,)
        caller.on(*request.keys, *drafted)
        return explainer.explain(request, now=now)

    def try_policy(_: Request, body: bytes, caller: Caller, now: int) -> PolicyTrial:
        envelope = Envelope.from_bytes(body)
        caller.on(codec.decode(Policy, envelope.payload).id)
        return explainer.try_policy(envelope, now=now)

    return [
        owned("POST", f"{one}/import", Verb.KEYS_CREATE, take),
        owned("POST", f"{one}/order", Verb.KEYS_ROTATE, order),
        owned("POST", f"{one}/destroy", Verb.KEYS_DESTROY, destroy),
        owned("POST", wire.EXPLAIN_PATH, Verb.EXPLAIN, explain, limit=wire.MAX_EXPLAIN_BYTES),
        owned("POST", wire.TRIAL_PATH, Verb.EXPLAIN, try_policy),
    ]
