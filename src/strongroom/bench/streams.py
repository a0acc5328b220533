"""What a gateway's own processor time is for a token, with many streams at once: the second part of `bench inference`.

Method: a gateway process alone on one core, before an engine's stand-in (`talker`) that says a word to each stream a hundred times a
second; the stand-in and whoever reads on the other core. Counted is what the scheduler gave to the gateway's threads (nanoseconds), from
before the first request to after the last receipt: unsealing, the engine's frames, padding, sealing, hashing, receipts. Readers take bytes
as they come; each opens its answer afterwards, checks the receipt, and that every word is the one that the prompt makes.

Knows: how to count. Does not know: what is good. Not covered: TLS, which is the kernel's and OpenSSL's account.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from strongroom.bench.figures import Figure, Goal, figure
from strongroom.bench.gateway import TALKER
from strongroom.bench.inference import CLIENT_CORE, ENGINE_CORE, Progress, children, pin, running
from strongroom.bench.talker import words_of
from strongroom.channel import exchange_v2
from strongroom.channel.client import Exchange
from strongroom.client import chat
from strongroom.errors import Unavailable
from strongroom.receipts.receipt import SealedReceipt, verify_receipt
from strongroom.records import codec
from strongroom.records.worker import Keyset

STREAMS = 64
TOKENS = 512
"""Of each stream; what its request and its receipt cost is in the figure, spread over them."""
CPU_GOAL: Goal = ("<=", 50.0)
_HEADERS = [(b"host", b"worker"), (b"content-type", b"application/json")]


@dataclass(slots=True)
class Reader:
    """One stream: its sealed request, and the sealed answer as it came."""

    prompt: str
    tokens: int
    keyset: Keyset
    answer: bytes = b""
    sealed: exchange_v2.SealedRequestV2 = field(init=False)

    def __post_init__(self) -> None:
        peer = exchange_v2.peer_of(self.keyset)
        if peer is None:
            raise Unavailable("the gateway does not speak version 2")
        body = chat.request(self.prompt, {"max_tokens": self.tokens})
        channel = exchange_v2.ChannelV2(peer, self._check)
        self.sealed = channel.seal("POST", (chat.PATH, chat.PATH), _HEADERS, body)

    def _check(self, exchange: Exchange) -> None:
        receipt = verify_receipt(
            codec.decode(SealedReceipt, exchange.sealed_receipt),
            keyset=self.keyset,
            request_sha256=exchange.request_sha256,
            response_sha256=exchange.response_sha256,
        )
        if receipt.outcome != "complete" or receipt.usage["completion_tokens"] != self.tokens:
            raise Unavailable("an answer of the benchmark is not whole")

    async def read(self, host: str, port: int) -> None:
        """Ask, and take all there is."""
        reader, writer = await asyncio.open_connection(host, port)
        names = [*self.sealed.headers, (b"connection", b"close")]
        head = b"POST %s HTTP/1.1\r\n" % self.sealed.target.encode()
        writer.write(head + b"".join(b"%s: %s\r\n" % pair for pair in names if pair[0] != b"accept-encoding") + b"\r\n")
        writer.write(self.sealed.content)
        self.answer = await reader.read(-1)
        writer.close()

    def judge(self) -> None:
        """Open what came. Raises unless it is the whole answer, word by word."""
        head, _, rest = self.answer.partition(b"\r\n\r\n")
        opened = self.sealed.answer(200, [(b"content-type", _header(head, b"content-type"))])
        if opened is None:
            raise Unavailable("the gateway of the benchmark refused", detail=head[:100].decode("latin-1"))
        text = opened.feed(_unchunked(rest)) + opened.finish()
        if "".join(chat.Lines().feed(text)) != "".join(words_of(self.prompt, self.tokens)):
            raise Unavailable("an answer of the benchmark is wrong")


def _header(head: bytes, wanted: bytes) -> bytes:
    return next((line[len(wanted) + 2 :] for line in head.split(b"\r\n") if line.lower().startswith(wanted)), b"")


def _unchunked(data: bytes) -> bytes:
    """The content of a chunked body that has come to its end."""
    found, at = bytearray(), 0
    while True:
        line = data.index(b"\r\n", at)
        length = int(data[at:line], 16)
        if not length:
            return bytes(found)
        found += data[line + 2 : line + 2 + length]
        at = line + 4 + length


def processor_seconds(process: int) -> float:
    """What the scheduler has given to a process's threads."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def measure(gateway: int, ready: dict[str, Any], *, streams: int, tokens: int, number: int) -> float:
    """Microseconds of the gateway's processor time for one token, in one run."""
    keyset, url = codec.from_json(Keyset, ready["keyset"]), httpx2.URL(ready["url"])
    readers = [Reader(f"run {number}, stream {each}", tokens, keyset) for each in range(streams)]

    async def all_at_once() -> None:
        await asyncio.gather(*(reader.read(url.host, url.port or 80) for reader in readers))

    before = processor_seconds(gateway)
    asyncio.run(all_at_once())
    spent = processor_seconds(gateway) - before
    for reader in readers:
        reader.judge()
    return spent * 1e6 / (streams * tokens)


def streams(*, runs: int, progress: Progress) -> list[Figure]:
    """Set up, measure, clean up. Raises `Unavailable`."""
    before = os.sched_getaffinity(0)
    if not {ENGINE_CORE, CLIENT_CORE} <= before:
        raise Unavailable("this benchmark needs two cores", remedy="Run it on a machine with at least two.")
    with ExitStack() as stack:
        gateway = stack.enter_context(running("gateway", Path(TALKER), slots=STREAMS))
        pin(gateway.process, CLIENT_CORE)
        for child in children(gateway.process):
            pin(child, ENGINE_CORE)
        stack.callback(os.sched_setaffinity, 0, before)
        os.sched_setaffinity(0, {ENGINE_CORE})
        samples = []
        for number in range(runs + 1):
            spent = measure(gateway.process, gateway.ready, streams=STREAMS, tokens=TOKENS, number=number)
            samples += [spent] if number else []
            progress(number, runs)
    return [
        figure("inference.gateway_cpu", samples, unit="µs/token", baseline=f"{STREAMS} streams at once", goal=CPU_GOAL)
    ]
