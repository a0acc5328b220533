"""Answers: what an engine says, committed to, padded, and closed by a receipt.

Knows: the two forms of an answer (one JSON document, a stream of events) and what a receipt commits to: every byte before its
own. Does not know: HTTP, sealing (`channel`), engines beyond the port.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from strongroom.channel import completion, padding
from strongroom.errors import EngineUnavailable, MalformedMessage, StrongroomError
from strongroom.records import codec
from strongroom.worker.workload import Session, sha256
from strongroom.workloads.inference.workload import InferenceWorkload

MAX_REQUEST = 8 * 1024 * 1024
DONE = b"data: [DONE]\n\n"
FORBIDDEN = frozenset({"id_slot", "cache_prompt", "model", "timings_per_token", "return_tokens", "slot_id"})
"""Members of a request that steer the engine itself; a client has no say in these."""


def parse_request(body: bytes) -> dict[str, Any]:
    """A request's JSON object. Raises `MalformedMessage`."""
    if len(body) > MAX_REQUEST:
        raise MalformedMessage(f"a request of {len(body)} bytes exceeds the limit of {MAX_REQUEST}")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedMessage("the request is not JSON", remedy="Send a JSON object.") from None
    if not isinstance(request, dict):
        raise MalformedMessage("the request is not a JSON object", remedy="Send a JSON object.")
    return {name: member for name, member in request.items() if name not in FORBIDDEN}


async def whole(workload: InferenceWorkload, session: Session, operation: str, body: bytes) -> bytes:
    """One JSON document with its receipt inside. Raises what the engine raised; then there is no answer to commit to."""
    request = parse_request(body)
    chunks = [chunk async for chunk in workload.engine.generate(operation, request)]
    if len(chunks) != 1:
        raise EngineUnavailable("the engine gave no single answer")
    answer = chunks[0]
    receipt = session.receipt(
        workload.name,
        request_sha256=sha256(body),
        response_sha256=sha256(answer),
        usage=usage_of(answer),
        outcome="complete",
    )
    return padding.pad_json(completion.append_to_json(answer, codec.encode(receipt)))


async def stream(workload: InferenceWorkload, session: Session, operation: str, body: bytes) -> AsyncGenerator[bytes]:
    """Events, each padded so that its length tells nothing, then `[DONE]`, then the receipt.

    What fails before the first event is raised, and there is no answer. If the engine fails later, the last event is an error in
    the protocol and the receipt says `failed`; if the client goes away, the receipt says `cut`: it is signed and logged all the same.
    """
    request = parse_request(body)
    request["stream_options"] = {"include_usage": True}
    hasher, usage, outcome = hashlib.sha256(), dict[str, int](), "none"

    def event(data: bytes) -> bytes:
        padded = padding.pad_event(data)
        hasher.update(padded)
        return padded

    def receipt() -> bytes:
        sealed = session.receipt(
            workload.name,
            request_sha256=sha256(body),
            response_sha256=hasher.digest(),
            usage=usage,
            outcome=outcome,
        )
        return padding.pad_event(completion.sse_trailer(codec.encode(sealed)))

    try:
        try:
            async for chunk in workload.engine.generate(operation, request):
                if b'"usage"' in chunk:
                    usage = usage_of(chunk)
                outcome = "cut"
                yield event(b"data: " + chunk + b"\n\n")
            yield event(DONE)
            outcome = "complete"
        except StrongroomError as error:
            if outcome == "none":
                raise
            outcome = "failed"
            yield event(b"data: " + error_document(error) + b"\n\n")
        yield receipt()
    finally:
        if outcome == "cut":
            receipt()


def usage_of(answer: bytes) -> dict[str, int]:
    """The counts in an engine's answer; empty if it has none."""
    try:
        usage = json.loads(answer).get("usage") or {}
    except (ValueError, AttributeError):
        return {}
    names = ("prompt_tokens", "completion_tokens")
    return {name: usage[name] for name in names if type(usage.get(name)) is int}


def error_document(error: StrongroomError) -> bytes:
    """An error in OpenAI's form."""
    body: Mapping[str, Any] = {"message": f"{error.message}. {error.remedy}", "type": error.code, "code": error.code}
    return json.dumps({"error": body}, separators=(",", ":")).encode()
