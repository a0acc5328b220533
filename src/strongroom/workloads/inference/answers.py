"""Answers: what an engine says, committed to, padded, and closed by a receipt.

Knows: the two shapes of an answer (one JSON document, a stream of events) and what a receipt commits to: every byte before its
own. Does not know: the forms of the API (`forms`), HTTP, sealing (`channel`), engines beyond the port.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from strongroom.channel import completion, padding
from strongroom.channel.pacing import paced
from strongroom.engines.port import RequestRejected
from strongroom.errors import EngineUnavailable, StrongroomError, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.worker.workload import Session, sha256
from strongroom.workloads.inference.forms import BROKEN, Form
from strongroom.workloads.inference.heartbeat import QUIET_SECONDS, with_heartbeats
from strongroom.workloads.inference.models import Model
from strongroom.workloads.inference.workload import InferenceWorkload

Generate = Callable[[str, Mapping[str, Any]], AsyncGenerator[bytes]]
"""How an engine is asked: operation and request (see `engines.port`), with whatever stands before it."""
ENDING_BUCKET = 4096
"""Bytes of plaintext to whose multiples a stream's last event is padded if it is longer than others: some forms repeat the text."""


async def whole(
    workload: InferenceWorkload,
    session: Session,
    model: Model,
    form: Form,
    asked: dict[str, Any],
    body: bytes,
    generate: Generate,
    *,
    namespace: bytes | None = None,
    adapter: Digest | None = None,
) -> bytes:
    """One JSON document of `model` with its receipt inside. Raises what the engine raised; then there is no answer to commit to.

    `namespace` and `adapter` as in `Session.receipt`.
    """
    request = form.translate(asked)
    chunks = [chunk async for chunk in generate(form.operation, request)]
    if len(chunks) != 1:
        raise EngineUnavailable("the engine gave no single answer")
    answer = form.render(chunks[0], asked, model.name)
    receipt = session.receipt(
        workload.name,
        request_sha256=sha256(body),
        response_sha256=sha256(answer),
        usage=usage_of(chunks[0]),
        outcome="complete",
        namespace=namespace,
        model=model.artifact,
        adapter=adapter,
    )
    return padding.pad_json(completion.append_to_json(answer, codec.encode(receipt)), workload.pacing.bucket)


async def stream(
    workload: InferenceWorkload,
    session: Session,
    model: Model,
    form: Form,
    asked: dict[str, Any],
    body: bytes,
    generate: Generate,
    *,
    quiet: float = QUIET_SECONDS,
    namespace: bytes | None = None,
    adapter: Digest | None = None,
) -> AsyncGenerator[bytes]:
    """Events, each padded so that its length tells nothing, then the form's own end, then the receipt.

    What fails before the first event is raised, and there is no answer. If the engine fails later, the last event is an error in
    the form and the receipt says `failed`; if the client goes away, the receipt says `cut`: it is signed and logged all the same.
    While the engine says nothing, each `quiet` seconds bring an event without a meaning.
    """
    if form.events is None:
        raise UsageError("this path does not stream", remedy="Leave `stream` out.")
    request = {**form.translate(asked), "stream": True, "stream_options": {"include_usage": True}}
    events = form.events(asked, model.name)
    hasher, usage, outcome = hashlib.sha256(), dict[str, int](), "none"

    def told(chunk: bytes | None) -> bytes:
        nonlocal usage
        if chunk is None:
            return form.ping
        if b'"usage"' in chunk:
            usage = usage_of(chunk) or usage
        return events.feed(chunk)

    def event(data: bytes, bucket: int = workload.pacing.bucket) -> bytes:
        padded = padding.pad_event(data, bucket)
        hasher.update(padded)
        return padded

    def receipt() -> bytes:
        sealed = session.receipt(
            workload.name,
            request_sha256=sha256(body),
            response_sha256=hasher.digest(),
            usage=usage,
            outcome=outcome,
            namespace=namespace,
            model=model.artifact,
            adapter=adapter,
        )
        return padding.pad_event(completion.sse_trailer(codec.encode(sealed)), workload.pacing.bucket)

    try:
        try:
            generated = with_heartbeats(generate(form.operation, request), quiet)
            async with contextlib.aclosing(paced(generated, workload.pacing.flush_ms)) as ticks:
                async for chunks in ticks:
                    if data := b"".join(map(told, chunks)):
                        outcome = "cut"
                        yield event(data)
            ending, bucket = events.finish(), workload.pacing.bucket
            yield event(ending, bucket if len(ending) <= bucket else ENDING_BUCKET)
            outcome = "complete"
        except StrongroomError as error:
            if outcome == "none":
                raise
            outcome = "failed"
            yield event(events.fail(error, error.status if isinstance(error, RequestRejected) else BROKEN))
        yield receipt()
    finally:
        if outcome == "cut":
            receipt()


def usage_of(answer: bytes) -> dict[str, int]:
    """The counts in an engine's answer; empty if it has none."""
    try:
        usage = json.loads(answer).get("usage") or {}
    except (ValueError, AttributeError, RecursionError):
        return {}
    names = ("prompt_tokens", "completion_tokens")
    return {name: usage[name] for name in names if type(usage.get(name)) is int}
