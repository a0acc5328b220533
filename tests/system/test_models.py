"""Several real models in one worker, each in its own confined child: named, crashed, and taking turns in the memory."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from strongroom.client.client import Client
from strongroom.demo.model import find_model
from strongroom.demo.processes import Process
from strongroom.errors import StrongroomError

pytestmark = [pytest.mark.needs("model"), pytest.mark.timeout(300)]

CAPITAL = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 12,
}
ANSWER = "The capital of France is Paris."


@pytest.fixture(scope="module")
def house(new_estate):
    """An estate with the real model sealed twice, as two artifacts."""
    model = find_model()
    assert model is not None
    estate = new_estate()
    estate.start()
    broker = estate.client(owner=True)
    broker.create_key("model", "policy")
    openers = [estate.seal(model, tag) for tag in ("first", "second")]
    broker.put_policy(estate.signed(estate.policy(*(opener.digest for opener in openers))))
    broker.close()
    return estate, {opener_tag: opener.digest for opener_tag, opener in zip(("one", "two"), openers, strict=True)}


class Serving:
    """A worker of both models and a user of it."""

    def __init__(self, estate, artifacts, worker: Process) -> None:
        self.worker, self.artifacts = worker, artifacts
        self.url = worker.line(state="serving")["detail"]
        self.client = Client(
            self.url,
            policy=estate.policy(*artifacts.values()),
            anchor=estate.anchor,
            broker=estate.fingerprint,
            accept_simulated=True,
        )
        self.http = httpx2.Client(transport=self.client.transport(), timeout=120)

    def ask(self, model: str) -> httpx2.Response:
        return self.http.post(self.url + "/v1/chat/completions", json={**CAPITAL, "model": model})

    def right(self, model: str) -> None:
        answer = self.ask(model)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        receipt = json.loads(self.client.last_receipt.receipt.envelope.payload)
        assert receipt["model"] == self.artifacts[model]
        assert receipt["outcome"] == "complete"

    def engines(self) -> list[int]:
        """The confined processes: whoever maps llama.cpp's library."""
        return [number for number in below(self.worker.process.pid) if maps(number) and not below(number)]


def below(number: int) -> list[int]:
    found, waiting = [], [number]
    while waiting:
        at = waiting.pop()
        for table in Path(f"/proc/{at}/task").glob("*/children"):
            try:
                children = [int(word) for word in table.read_text(encoding="utf-8").split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


def maps(number: int) -> bool:
    try:
        return "xllamacpp" in Path(f"/proc/{number}/maps").read_text(encoding="utf-8")
    except OSError:
        return False


@pytest.fixture
def serve(house, tmp_path) -> Iterator:
    estate, artifacts = house
    with estate.served_chip(estate.host / f"tee-{tmp_path.name}") as tee:
        workers = []

        def start(*options: str) -> Serving:
            registry = f"dir:{estate.host / 'registry'}"
            worker = estate.worker(
                "first", tee, tmp_path / "worker.log", f"two={registry}:second", *options, name="one"
            )
            workers.append(worker)
            return Serving(estate, artifacts, worker)

        yield start
        for worker in workers:
            worker.stop()


def test_two_models_answer_by_name_and_each_crash_is_its_own(serve):
    serving = serve()
    serving.right("one")
    serving.right("two")
    refused = serving.http.post(serving.url + "/v1/chat/completions", json={**CAPITAL, "model": "three"})
    assert refused.status_code == 404

    endless = {"model": "one", "messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 400}
    ends: list[str] = []
    begun = threading.Barrier(2)

    def listen() -> None:
        text = b""
        try:
            body = {**endless, "stream": True}
            with serving.http.stream("POST", serving.url + "/v1/chat/completions", json=body) as answer:
                for piece in answer.iter_bytes():
                    if not text:
                        begun.wait(60)
                    text += piece
            ends.append("complete")
        except StrongroomError as error:
            ends.append("error" if b'"code":"engine.unavailable"' in text and b"[DONE]" not in text else error.code)

    listener = threading.Thread(target=listen)
    listener.start()
    begun.wait(60)
    for engine in serving.engines():
        os.kill(engine, signal.SIGKILL)
    listener.join(60)
    assert ends == ["error"]
    outcome = json.loads(serving.client.last_receipt.receipt.envelope.payload)["outcome"]
    assert outcome == "failed"
    for name in ("one", "two"):
        for _ in range(30):
            answer = serving.ask(name)
            if answer.status_code == 200:
                break
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            time.sleep(int(answer.headers["retry-after"]))
        serving.right(name)
    said = serving.worker.log.read_text(encoding="utf-8")
    assert "its engine ended" in said
    assert "Traceback" not in said


def test_a_server_of_llama_cpp_is_an_engine_too_and_its_crash_is_survived(serve):
    program = (Path(__file__).parent / "llama_server.py").read_text(encoding="utf-8")
    command = shlex.join([sys.executable, "-c", program, "{port}", "{model}", "{name}"])
    serving = serve("--engine-command", command, "--resident", "1")
    serving.right("one")
    for engine in serving.engines():
        os.kill(engine, signal.SIGKILL)
    for _ in range(30):
        answer = serving.ask("one")
        if answer.status_code == 200:
            break
        assert answer.status_code == 503
        time.sleep(1)
    serving.right("one")
    body = {**CAPITAL, "model": "two", "stream": True}
    with serving.http.stream("POST", serving.url + "/v1/chat/completions", json=body) as answer:
        text = answer.read()
    assert b"data: [DONE]" in text
    receipt = json.loads(serving.client.last_receipt.receipt.envelope.payload)
    assert receipt["model"] == serving.artifacts["two"]
    assert receipt["usage"]["completion_tokens"] > 0


def test_two_models_take_turns_in_the_memory_of_one(serve):
    serving = serve("--resident", "1")
    assert serving.engines() == []
    for name in ("one", "two", "one"):
        serving.right(name)
        assert len(serving.engines()) == 1
    said = serving.worker.log.read_text(encoding="utf-8")
    assert said.count("make room") == 2
    assert said.count("in memory after") == 3
