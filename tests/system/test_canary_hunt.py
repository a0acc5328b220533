"""The canary rule on a real worker with the real model: what is planted in all that is secret is nowhere that its host can look.

The worker is a process of its own, as `strongroom serve` starts it, with its numbers open to Prometheus and to a collector. Searched are:
the log of each process, the numbers, what the collector got, both wires, temporary and home folders, the broker's database, the
registry, and every file on disk that worker and engine hold open. At the end both are killed as a crash would, and nothing may be
left of them.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from strongroom.client.client import Client
from strongroom.demo import processes
from strongroom.demo.canaries import Canary, hunt
from strongroom.demo.model import find_model
from strongroom.demo.stack import KEY_ID, MODEL_NAME, POLICY_ID, Stack, stack
from strongroom.errors import StrongroomError
from strongroom.services.server import BackgroundServer

pytestmark = [pytest.mark.needs("model"), pytest.mark.timeout(300)]

TOKEN = "0123456789abcdef0123456789abcdef"
CHAT = "/v1/chat/completions"
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}


class Collector:
    """An OpenTelemetry collector that keeps in `folder` all it is sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        heads = b"\n".join(name + b": " + value for name, value in scope["headers"])
        (self._folder / f"{len(self.paths)}").write_bytes(heads + b"\n\n" + body)
        self.paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def planted() -> dict[str, str]:
    places = ("prompt", "system prompt", "tool", "tool arguments", "credential", "trace", "user", "path")
    return {place: f"canary-{place.replace(' ', '-')}-{base64.b32encode(os.urandom(10)).decode()}" for place in places}


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stack, Collector, Path]]:
    """A stack whose worker shows its numbers, before it was asked anything; the collector; the user's policy."""
    model = find_model()
    assert model is not None
    with stack(tmp_path / "stack") as made, BackgroundServer(collector := Collector(made.host / "collected")) as server:
        token = made.owner / "token"
        token.write_text(TOKEN)
        told = Stack._told
        monkeypatch.setattr(
            Stack, "_told", lambda *words: [*told(*words), "--metrics-token", str(token), "--otlp", server.url]
        )
        made.make_installation()
        processes.must("keys", "new", made.identity)
        made.start_broker()
        folder = made.owner / "model"
        folder.mkdir()
        shutil.copyfile(model, folder / "model.gguf")
        processes.must("keys", "create", KEY_ID, "--policy-id", POLICY_ID, *made.at_broker())
        artifact = made.seal(folder, MODEL_NAME)
        policy = made.policy(artifact, made.configuration(MODEL_NAME))
        policy = made.publish(replace(policy, lease_seconds=60))  # no answer is refused because this machine is busy
        made.wait_ready(made.start_worker(MODEL_NAME))
        yield made, collector, policy
        shutil.rmtree(folder)


def ask_everything(client: Client, secrets: dict[str, str]) -> list[str]:
    """Ask with a canary wherever a client may write; the answers."""
    headers = {
        "authorization": f"Bearer {secrets['credential']}",
        "traceparent": "00-" + "0123456789abcdef" * 2 + "-00f067aa0ba902b7-01",
        "tracestate": secrets["trace"],
        "baggage": f"canary={secrets['trace']}",
    }
    say = [
        {"role": "system", "content": f"You are file {secrets['system prompt']}."},
        {"role": "user", "content": f"What is the capital of France? ({secrets['prompt']})"},
    ]
    arguments = json.dumps({"city": secrets["tool arguments"]})
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    tooled = [
        *say,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": secrets["tool"]},
    ]
    weather = {"name": "weather", "description": secrets["tool"], "parameters": TOOL}
    one, system = {"role": "user", "content": secrets["prompt"]}, secrets["system prompt"]
    bodies: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"messages": say, "user": secrets["user"]}),
        (CHAT, {"messages": say, "stream": True}),
        (CHAT, {"messages": tooled, "tools": [{"type": "function", "function": weather}]}),
        ("/v1/responses", {"input": secrets["prompt"], "instructions": system, "max_output_tokens": 8}),
        ("/v1/messages", {"messages": [one], "system": system, "max_tokens": 8}),
        (CHAT, {"messages": secrets["prompt"]}),
        (CHAT, {"messages": say, secrets["prompt"]: True}),
        (f"/v1/{secrets['path']}", {"messages": say}),
    ]
    answers = []
    for path, body in bodies:
        limit = {} if path != CHAT else {"max_tokens": 24, "temperature": 0}
        http = httpx2.Client(transport=client.transport(), timeout=120)
        try:
            answer = http.post(client.url + path, json={"model": "m", **limit, **body}, headers=headers)
        except StrongroomError:
            continue
        if answer.is_success and not body.get("stream") and path == CHAT:
            answers.append(answer.json()["choices"][0]["message"].get("content") or "")
    return [text for text in answers if len(text) > 20]


def open_on_disk(process: psutil.Process) -> set[Path]:
    """The regular files on disk that a process holds open: what is in memory alone has no name there."""
    found = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            target = link.readlink()
        except OSError:
            continue
        if (
            target.is_absolute()
            and target.is_file()
            and not str(target).startswith(("/dev/", "/proc/", "/sys/", "/memfd:"))
        ):
            found.add(target)
    return found


def test_what_is_secret_is_nowhere_that_the_host_can_look(seen):
    made, collector, policy = seen
    secrets = planted()
    client = Client(
        made.worker.url, policy=policy, anchor=made.anchor, broker=made.broker.fingerprint, accept_simulated=True
    )
    answers = ask_everything(client, secrets)
    assert answers
    worker = psutil.Process(made.worker.process.process.pid)
    family = [worker, *worker.children(recursive=True)]
    assert len(family) > 1  # the engine is one of them
    held = set().union(*(open_on_disk(process) for process in family))
    for process in family:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size")] == [
            ["0", "0"]
        ]
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "VmSwap:\t       0 kB" in status
    until_collected(collector)
    page = page_of_all(made.worker.url, 8)
    (made.host / "metrics").write_text(page.text)
    for process in reversed(family):  # as a crash would end them
        process.send_signal(signal.SIGSEGV)
    psutil.wait_procs(family, timeout=20)
    weights = (made.owner / "model" / "model.gguf").read_bytes()[50_000_000:50_000_064]
    canaries = [Canary(place, secret.encode()) for place, secret in secrets.items()]
    canaries += [Canary(f"answer {number}", text.encode()) for number, text in enumerate(answers)]
    canaries += [Canary("answer in JSON", json.dumps(answers[0]).encode()), Canary("weights", weights)]
    found, searched = hunt(canaries, [made.host, *sorted(held)])
    assert found == []
    assert searched > 50_000_000  # the registry's ciphertext at least
    assert not [path for path in made.host.rglob("core*") if path.is_file()]
    assert {one.canary for one in hunt(canaries, [made.owner])[0]} == {"weights"}


def page_of_all(worker: str, asked: int) -> httpx2.Response:
    """The page of numbers once it shows every request: it changes each fifteen seconds, and a busy machine takes longer to answer."""
    shown = 0.0
    deadline = time.monotonic() + 60
    while shown < asked:
        assert time.monotonic() < deadline, f"{shown} of {asked} requests are shown"
        time.sleep(0.5)
        page = httpx2.get(worker + "/metrics", headers={"authorization": f"Bearer {TOKEN}"})
        assert page.status_code == 200
        families = {one.name: one for one in text_string_to_metric_families(page.text)}
        shown = sum(sample.value for sample in families["strongroom_requests"].samples)
    return page


def until_collected(collector: Collector) -> None:
    """Numbers and spans are sent each fifteen seconds."""
    deadline = time.monotonic() + 40
    while {"/v1/metrics", "/v1/traces"} - set(collector.paths):
        assert time.monotonic() < deadline, collector.paths
        time.sleep(0.2)
