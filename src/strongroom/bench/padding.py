"""`bench padding`: what the lengths and times of a sealed stream say of its tokens, under several settings of padding and pacing.

Method: real answers are streamed once through the gateway; each event's own length and its moment are kept, and every setting is applied
to the same record, so that settings differ by themselves alone. What is counted is entropy: of the length of a message, of the length of
an answer in all, and of the gap between messages in whole milliseconds; the first two with the Miller–Madow correction, because few samples
understate. Entropy is an upper bound of what is leaked: an observer who cannot predict a length or a gap may learn as much from it about
the tokens, and not more. Messages are counted as if independent.

Knows: how to count. Does not know: models, sealing. Not covered: what a sequence of lengths says beyond its members; load of others on
the machine, which makes gaps less telling than they are here.
"""

from __future__ import annotations

import itertools
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2

from strongroom.bench.figures import Figure, Goal
from strongroom.bench.inference import TIMEOUT, Progress, running, sealed_transport
from strongroom.channel.pacing import Pacing
from strongroom.client import chat

FRAME = 5 + 2 + 16
"""Bytes around the content of one message of version 2."""
PROMPTS = (
    "Tell me a long story about a lighthouse keeper and the sea.",
    "Explain how a bicycle stays upright.",
    "Write a letter to a landlord about a broken window.",
    "List twenty animals and what they eat.",
    "What is the difference between weather and climate?",
    "Write a short play about two clocks.",
    "How do I bake bread without yeast?",
    "Describe the water cycle to a child.",
)
SETTINGS = (Pacing(64), Pacing(256), Pacing(512), Pacing(256, 100), Pacing(512, 100), Pacing(512, 250))
LEAK_GOAL: Goal = ("<=", 0.2)
BYTES_GOAL: Goal = ("<=", 0.2)
ANY: Goal = ("<=", math.inf)
_PADDING = re.compile(rb"^: *\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Event:
    """One token's event as it left the engine: its length in bytes, its moment in seconds."""

    length: int
    at: float


Answer = Sequence[Event]


@dataclass(frozen=True, slots=True)
class Leak:
    """What shows, in bits for each token (`total` in bits for each answer), and what hiding costs: padded bytes to bare ones, less 1."""

    frame: float
    total: float
    timing: float
    added: float


def messages(answer: Answer, pacing: Pacing | None) -> list[Event]:
    """The messages that an answer becomes; without `pacing`, one for each event, as long as it is."""
    if pacing is None:
        return [Event(event.length + FRAME, event.at) for event in answer]
    joined: dict[float, int] = {}
    for event in answer:
        at = _tick(event.at, answer[0].at, pacing.flush_ms)
        joined[at] = joined.get(at, 0) + event.length
    return [Event(-(-length // pacing.bucket) * pacing.bucket + FRAME, at) for at, length in joined.items()]


def _tick(at: float, began: float, flush_ms: int) -> float:
    if not flush_ms or at == began:
        return at
    return began + math.ceil(round((at - began) * 1000, 6) / flush_ms) * flush_ms / 1000


def entropy(samples: Sequence[object]) -> float:
    """Shannon entropy in bits, with the Miller–Madow correction; 0 for what never differs."""
    counts = Counter(samples)
    n = len(samples)
    if len(counts) < 2:  # noqa: PLR2004 (nothing to tell apart)
        return 0.0
    plain = -sum(count / n * math.log2(count / n) for count in counts.values())
    return min(math.log2(n), plain + (len(counts) - 1) / (2 * n * math.log(2)))


def leak(answers: Sequence[Answer], pacing: Pacing | None) -> Leak:
    """What an observer of these answers may learn under one setting. `answers` are not empty, nor is any of them."""
    sent = [messages(answer, pacing) for answer in answers]
    tokens = sum(len(answer) for answer in answers)
    lengths = [message.length for one in sent for message in one]
    gaps = [round((after.at - before.at) * 1000) for one in sent for before, after in itertools.pairwise(one)]
    bare = sum(event.length + FRAME for answer in answers for event in answer)
    return Leak(
        frame=entropy(lengths) * len(lengths) / tokens,
        total=entropy([sum(message.length for message in one) for one in sent]),
        timing=entropy(gaps) * len(gaps) / tokens if gaps else 0.0,
        added=sum(lengths) / bare - 1,
    )


def figures_of(answers: Sequence[Answer]) -> list[Figure]:
    """The figures of every setting beside the bare stream's. Exact for the record they are of: their intervals are points."""
    found = []
    for pacing in (None, *SETTINGS):
        name = "bare" if pacing is None else _name(pacing)
        judged = pacing == Pacing()  # what a worker does unless told otherwise
        seen = leak(answers, pacing)
        for part, value, unit, goal in (
            ("frame", seen.frame, "bit/token", LEAK_GOAL if judged else ANY),
            ("total", seen.total, "bit/answer", ANY),
            ("timing", seen.timing, "bit/token", ANY),
            ("added_bytes", seen.added, "ratio", BYTES_GOAL if judged else ANY),
        ):
            point = round(value, 4)
            runs = len(answers)
            found.append(
                Figure(f"padding.{name}.{part}", point, unit, "the bare stream, sealed", goal, runs, (point, point))
            )
    return found


def is_of(one: Figure, pacing: Pacing) -> bool:
    """Whether a figure is of this setting."""
    return one.id.startswith(f"padding.{_name(pacing)}.")


def _name(pacing: Pacing) -> str:
    return f"{pacing.bucket}b.{pacing.flush_ms}ms"


def padding(model: Path, *, tokens: int, progress: Progress) -> list[Figure]:
    """Stream real answers, then count."""
    with ExitStack() as stack:
        gateway = stack.enter_context(running("gateway", model))
        http = stack.enter_context(httpx2.Client(timeout=TIMEOUT, transport=sealed_transport(gateway.ready)))
        answers = []
        for number, prompt in enumerate(PROMPTS):
            answers.append(list(_events(http, gateway.ready["url"], prompt, tokens)))
            progress(number + 1, len(PROMPTS))
    return figures_of(answers)


def _events(http: httpx2.Client, url: str, prompt: str, tokens: int) -> Iterator[Event]:
    body = chat.request(prompt, {"max_tokens": tokens, "temperature": 0})
    headers = {"content-type": "application/json"}
    with http.stream("POST", url + chat.PATH, content=body, headers=headers) as answer:
        chat.require_ok(answer.status_code, b"" if answer.is_success else answer.read())
        rest = b""
        for data in answer.iter_bytes():
            at = time.perf_counter()
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                own = _PADDING.sub(b"", event + b"\n").strip(b"\n")
                if own.startswith(b"data: {"):
                    yield Event(len(own) + 2, at)
