"""A gateway's HTTP API as one table, and the OpenAPI 3.1 description that is made of it.

Knows: for each method and path what goes in, what comes out, and whether it is taken only sealed. Does not know: who answers (`gateway`);
a test holds the table against its routes, and against the shelf before them (`shelf`). `docs/generate.py` writes the description to
docs/reference/openapi. Not covered: members that are the engine's to judge (OpenAI's own forms go to it as they are), and the seal itself
(docs/reference/channel-v2.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from strongroom.receipts.receipt import SealedReceipt
from strongroom.records import schema
from strongroom.records.fetched import RECEIPT_KEY_FIELD, RECEIPTS_PATH
from strongroom.records.session import EVIDENCE_PATH, EvidenceRequest
from strongroom.workloads.inference.forms import FORMS

JSON, EVENTS = "application/json", "text/event-stream"
Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}
_PARTS: Schema = {"anyOf": [_TEXT, {"type": "array"}]}
"""Text, or parts of which the worker takes those that it knows."""
_GIVEN: Mapping[str, Schema] = {JSON: {"schema": {"type": "object"}}, EVENTS: {}}
_TURNS: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {"role": {"enum": ["user", "assistant"]}, "content": _PARTS},
        "required": ["role", "content"],
        "additionalProperties": False,
    },
}
_LIMIT: Schema = {"type": "integer", "minimum": 1}
_STREAM: Schema = {"type": ["boolean", "null"]}
_CHAT: Schema = {"messages": _TURNS, "max_tokens": _LIMIT, "stream": _STREAM}
_COMPLETION: Schema = {"prompt": _TEXT, "max_tokens": _LIMIT, "stream": _STREAM}
_EMBEDDING: Schema = {"input": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}}
_COUNTED: Schema = {"input": _PARTS, "instructions": {"type": ["string", "null"]}}
_TOKENIZED: Schema = {"prompt": _TEXT, "messages": _TURNS}
_RESPONSE: Schema = {**_COUNTED, "max_output_tokens": {"type": ["integer", "null"], "minimum": 1}, "stream": _STREAM}
_LISTENED: Schema = {"messages": _TURNS, "system": {"anyOf": [*_PARTS["anyOf"], {"type": "null"}]}}
_MESSAGE: Schema = {**_LISTENED, "max_tokens": _LIMIT, "stream": {"type": "boolean"}}

REFUSALS: Mapping[int, str] = {
    400: "the request does not parse, or asks for something that has no meaning",
    403: "content is taken only sealed",
    503: "not now: draining, a full queue, or no engine",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    `members` are those that this page can say something about, of which `needs` must be there; with `strict` the worker itself judges
    them, else the engine does. `streams`: it may answer in events. `sealed`: taken in no other way.
    """

    method: str
    path: str
    name: str
    members: Schema = field(default_factory=dict)
    needs: Sequence[str] = ()
    strict: bool = False
    streams: bool = False
    sealed: bool = False


def _asked(path: str, name: str, members: Schema, *needs: str, strict: bool = False) -> Operation:
    return Operation("POST", path, name, members, needs, strict, streams=FORMS[path].events is not None, sealed=True)


OPERATIONS: Sequence[Operation] = (
    Operation("GET", "/healthz", "whether the worker takes work"),
    Operation("GET", "/v1/models", "what is served"),
    Operation("GET", "/v1/models/{name}", "one of these"),
    Operation("GET", RECEIPTS_PATH, "the receipt of an earlier request, for whoever knows its key", sealed=True),
    Operation("POST", EVIDENCE_PATH, "the worker's proof, for the asker's own nonce"),
    _asked("/v1/chat/completions", "a chat's next message (OpenAI)", _CHAT, "messages"),
    _asked("/v1/completions", "how a text goes on (OpenAI)", _COMPLETION, "prompt"),
    _asked("/v1/embeddings", "texts as vectors (OpenAI)", _EMBEDDING, "input"),
    _asked("/v1/responses", "a response (OpenAI)", _RESPONSE, "input", strict=True),
    _asked("/v1/responses/input_tokens", "how many tokens that would read", _COUNTED, "input", strict=True),
    _asked("/v1/tokenize", "how many tokens a text has (vLLM)", _TOKENIZED),
    _asked("/v1/messages", "a chat's next message (Anthropic)", _MESSAGE, "messages", "max_tokens", strict=True),
    _asked("/v1/messages/count_tokens", "how many tokens that would read", _LISTENED, "messages", strict=True),
)


def description() -> dict[str, Any]:
    """The OpenAPI 3.1 document of a worker's gateway, as it is inside the seal."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "strongroom gateway",
            "version": "1",
            "description": "What a proven worker answers. Content is taken only sealed (see the sealed channel, version 2): this is what "
            "stands inside. Every answer to a sealed request with a body ends in its receipt.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {
                "OpenAIError": _OPENAI,
                "AnthropicError": _ANTHROPIC,
                "EvidenceRequest": _record(EvidenceRequest),
                "SealedReceipt": _record(SealedReceipt),
            }
        },
    }


def _record(of: type) -> dict[str, Any]:
    found = schema.schema(of)
    return {name: value for name, value in found.items() if name not in {"$schema", "$id", "title"}}


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": operation.name, "x-strongroom-sealed": operation.sealed}
    if "{name}" in operation.path:
        found["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    if operation.path == RECEIPTS_PATH:
        found["parameters"] = [_RECEIPT_KEY]
    if operation.method == "POST":
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _body(operation)}}}
    kinds = [JSON, EVENTS] if operation.streams else [JSON]
    found["responses"] = {
        "200": {"description": "yes", "content": {kind: _given(operation, kind) for kind in kinds}},
        **{str(status): _refusal(operation, meaning) for status, meaning in _refusals(operation).items()},
    }
    return found


def _given(operation: Operation, kind: str) -> dict[str, Any]:
    return {"schema": _ref("SealedReceipt")} if operation.path == RECEIPTS_PATH else dict(_GIVEN[kind])


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(operation: Operation) -> dict[str, Any]:
    if operation.path == EVIDENCE_PATH:
        return _ref("EvidenceRequest")
    return {
        "type": "object",
        "properties": {"model": {}, **operation.members},
        "required": list(operation.needs),
        "additionalProperties": not operation.strict,
    }


def _refusals(operation: Operation) -> dict[int, str]:
    if operation.path == RECEIPTS_PATH:
        return {403: "receipts are given only sealed, headers and all", 404: "no receipt under this key, or no longer"}
    if operation.sealed:
        return {**REFUSALS, 404: "no such model", 422: "the engine would not do this", 429: "too much at once"}
    if operation.path == EVIDENCE_PATH:
        return {
            400: REFUSALS[400],
            413: "the body is longer than this path takes",
            503: "too many ask, or no device answers",
        }
    return {404: "there is nothing of this name"} if "{name}" in operation.path else {503: REFUSALS[503]}


def _refusal(operation: Operation, meaning: str) -> dict[str, Any]:
    name = "AnthropicError" if operation.path.startswith("/v1/messages") else "OpenAIError"
    return {"description": meaning, "content": {JSON: {"schema": _ref(name)}}}


_RECEIPT_KEY: Schema = {
    "name": RECEIPT_KEY_FIELD,
    "in": "header",
    "required": True,
    "description": "As in the request whose receipt it is; inside the seal.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
_OPENAI: Schema = {
    "type": "object",
    "description": "What went wrong, in OpenAI's form.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"message": _TEXT, "type": _TEXT, "code": {"type": ["string", "integer", "null"]}},
            "required": ["message", "type"],
        }
    },
    "required": ["error"],
}
_ANTHROPIC: Schema = {
    "type": "object",
    "description": "What went wrong, in Anthropic's form.",
    "properties": {"type": {"const": "error"}, **_OPENAI["properties"]},
    "required": ["type", "error"],
}
