"""The broker's HTTP API as one table, and the OpenAPI 3.1 description that is made of it.

Knows: for each method and path what goes in and what comes out. Does not know: who answers (`broker`, `cells`, `log`); a
test holds the table against their routes. `docs/generate.py` writes the description to docs/reference/openapi. Not
covered: what a schema cannot say, as that a body is signed by its sender; DESIGN section 5 has the order of things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strongroom.records import schema
from strongroom.records.audit import AuditPage, AuditQuery
from strongroom.records.cell import Cell, CellAnswer
from strongroom.records.destruction import DestructionDocument
from strongroom.records.enrolment import Enrolled, EnrolmentAnswer, EnrolmentChallenge, EnrolmentRequest
from strongroom.records.envelope import Envelope
from strongroom.records.explanation import ExplainRequest, Explanation, PolicyTrial
from strongroom.records.release import (
    Challenge,
    ExtensionRequest,
    LogProof,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    WrappedKey,
)
from strongroom.records.revocation import (
    LiftRequest,
    RevocationList,
    RevocationRequest,
    Revoked,
    SweepPage,
    SweepRequest,
)
from strongroom.release import wire
from strongroom.release.problem import MEDIA_TYPE

JSON = "application/json"
REFUSALS: Mapping[int, str] = {
    400: "the request does not parse, or asks for something that has no meaning",
    403: "refused: the problem names the failed checks",
    413: "the body is longer than this path takes",
    503: "not now: store, witnesses or token do not answer, or too much is under way",
}
PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "What went wrong (RFC 9457): a stable code, a sentence, the check or place, and what to do about it.",
    "properties": {
        **{name: {"type": "string"} for name in ("code", "message", "detail", "remedy")},
        "checks": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["code", "message", "detail", "remedy"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `takes` and `gives` are records, or a media type where it is no record; `owned`: only for owners."""

    method: str
    path: str
    name: str
    takes: type | None = None
    gives: type | str = JSON
    owned: bool = False


def _owned(method: str, path: str, name: str, takes: type | None, gives: type) -> Operation:
    return Operation(method, path, name, takes, gives, owned=True)


_KEY, _LEASE, _CELL = (f"{path}/{{id}}" for path in (wire.KEYS_PATH, wire.LEASES_PATH, wire.CELLS_PATH))
OPERATIONS: Sequence[Operation] = (
    Operation("GET", "/healthz", "whether the broker answers"),
    Operation("GET", wire.IDENTITY_PATH, "who the broker is, signed", gives=Envelope),
    Operation("POST", wire.CHALLENGES_PATH, "a nonce for one purpose", wire.ChallengeRequest, Challenge),
    Operation("POST", wire.RELEASES_PATH, "keys, for evidence", ReleaseRequest, ReleaseAnswer),
    Operation("POST", f"{_LEASE}/renew", "a lease goes on, for fresh evidence", RenewalRequest, ReleaseAnswer),
    Operation("POST", f"{_LEASE}/extend", "the same, with further keys", ExtensionRequest, ReleaseAnswer),
    Operation("POST", wire.RECEIPTS_PATH, "a signed root of receipts, logged", Envelope, LogProof),
    Operation("POST", f"{_CELL}/advance", "a counter grows, as a worker signed", Envelope, CellAnswer),
    Operation("POST", f"{_CELL}/spend", "a budget falls, as a worker signed", Envelope, CellAnswer),
    Operation("POST", f"{_CELL}/look", "how a cell stands, for a worker who signed", Envelope, Envelope),
    Operation("POST", wire.ENROLMENTS_PATH, "a credential for a TPM", EnrolmentRequest, EnrolmentChallenge),
    Operation("POST", f"{wire.ENROLMENTS_PATH}/answers", "a signed note on a TPM", EnrolmentAnswer, Enrolled),
    Operation("GET", "/checkpoint", "the log's newest checkpoint", gives="text/plain"),
    Operation("GET", "/tile/{path}", "a tile of the log (C2SP tlog-tiles)", gives="application/octet-stream"),
    _owned("GET", wire.KEYS_PATH, "all keys", None, wire.KeyList),
    _owned("POST", wire.KEYS_PATH, "a new key", wire.KeyCreation, wire.KeyInfo),
    _owned("POST", f"{_KEY}/wrap", "a data key, wrapped", wire.WrapRequest, WrappedKey),
    _owned("POST", f"{_KEY}/rotate", "a further version of a key", None, wire.KeyInfo),
    _owned("POST", f"{_KEY}/rewrap", "a wrapped key under the newest version", WrappedKey, WrappedKey),
    _owned("POST", f"{_KEY}/retire", "a key's end", None, wire.KeyList),
    _owned("POST", f"{_KEY}/import", "a key that was made elsewhere, sealed", wire.KeyImport, wire.KeyInfo),
    _owned(
        "POST", f"{_KEY}/order", "old versions of a key are refused from a moment on", wire.RekeyOrder, wire.KeyList
    ),
    _owned("POST", f"{_KEY}/destroy", "a retired key's destruction, with proof", None, DestructionDocument),
    _owned("POST", wire.EXPLAIN_PATH, "what would be decided of evidence", ExplainRequest, Explanation),
    _owned("POST", wire.TRIAL_PATH, "which leases would still pass a policy", Envelope, PolicyTrial),
    _owned("GET", wire.POLICIES_PATH, "all policies", None, wire.PolicyList),
    _owned("POST", wire.POLICIES_PATH, "a policy's new version, signed", Envelope, wire.PolicyInfo),
    _owned("POST", wire.AUDIT_PATH, "a page of the log with what decisions rested on", AuditQuery, AuditPage),
    _owned("POST", wire.ERASURES_PATH, "what opens members of leaves is erased", wire.ErasureRequest, wire.Erased),
    _owned("GET", wire.LEASES_PATH, "all leases", None, wire.LeaseList),
    _owned("POST", f"{_LEASE}/revoke", "a lease's end", None, wire.LeaseList),
    _owned("GET", wire.REVOCATIONS_PATH, "all revocations in force", None, RevocationList),
    _owned("POST", wire.REVOCATIONS_PATH, "a revocation, which stays in force", RevocationRequest, Revoked),
    _owned("POST", f"{wire.REVOCATIONS_PATH}/lift", "a revocation's end", LiftRequest, RevocationList),
    _owned("POST", wire.SWEEPS_PATH, "live leases, judged again", SweepRequest, SweepPage),
    _owned("GET", wire.ADMINISTRATORS_PATH, "all administrators", None, wire.AdministratorList),
    _owned("POST", wire.ADMINISTRATORS_PATH, "an appointment that a root signed", Envelope, wire.AdministratorList),
    _owned("DELETE", f"{wire.ADMINISTRATORS_PATH}/{{id}}", "an administrator's end", None, wire.AdministratorList),
    _owned("GET", wire.CELLS_PATH, "all cells", None, wire.CellList),
    _owned("POST", wire.CELLS_PATH, "a new cell", wire.CellCreation, Cell),
    _owned("GET", _CELL, "one cell", None, Cell),
)


def description() -> dict[str, Any]:
    """The OpenAPI 3.1 document of a broker."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    kinds = {kind for each in OPERATIONS for kind in (each.takes, each.gives) if isinstance(kind, type)}
    schemas = {kind.__name__: _schema(kind) for kind in sorted(kinds, key=lambda kind: kind.__name__)}
    owner = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token that an owner signed for this one request: its method, path and body.",
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "strongroom broker",
            "version": "1",
            "description": "Releases keys to proven workers. What comes out is signed and proved; clients check it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": {**schemas, "Problem": PROBLEM}, "securitySchemes": {"owner": owner}},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": operation.name, "security": [{"owner": []}] if operation.owned else []}
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if operation.takes is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(operation.takes)}}}
    gives = operation.gives
    media, given = (gives, {}) if isinstance(gives, str) else (JSON, {"schema": _reference(gives)})
    refusals = {**REFUSALS, 404: "there is nothing at this path"} if names else dict(REFUSALS)
    if operation.owned:
        refusals[401] = "who are you?"
    found["responses"] = {
        "200": {"description": "yes", "content": {media: given}},
        **{str(status): _refusal(refusals[status]) for status in sorted(refusals)},
    }
    return found


def _refusal(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _schema(kind: type) -> Mapping[str, Any]:
    """The record's published schema, without the names that it has as a document of its own."""
    if kind is Envelope:
        return schema.ENVELOPE
    found = schema.schema(kind)
    return {name: value for name, value in found.items() if name not in {"$schema", "$id", "title"}}
