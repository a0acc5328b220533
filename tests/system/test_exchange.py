"""A real worker is told by SIGHUP to look at its reference again, and goes on with the model that it means now.

Real parts: the command line, an OCI layout whose tag moves, a real small model in llama.cpp in a confined child.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import httpx2
import pytest

from strongroom.client.client import Client
from strongroom.demo.model import find_model

pytestmark = [pytest.mark.needs("model"), pytest.mark.timeout(300)]

QUESTION = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 12,
}
ANSWER = "The capital of France is Paris."


def test_a_tag_that_moved_is_followed_at_sighup_and_everybody_can_tell(estate, tmp_path: Path):
    model = find_model()
    assert model is not None
    estate.start()
    broker = estate.client(owner=True)
    broker.create_key("model", "policy")
    before = estate.seal(model, "model").digest
    first = estate.policy(before)
    broker.put_policy(estate.signed(first))
    with estate.served_chip(tmp_path / "tee") as tee:
        worker = estate.worker("model", tee, tmp_path / "worker.log")
        try:
            url = worker.line(state="serving")["detail"]
            after = estate.seal(model, "model").digest  # the tag moves; the worker goes on as it was
            both = estate.policy(before, after, version=2)
            broker.put_policy(estate.signed(both))
            broker.close()
            client = Client(url, policy=both, anchor=estate.anchor, broker=estate.fingerprint, accept_simulated=True)

            def answered() -> dict[str, object]:
                with httpx2.Client(transport=client.transport(), timeout=120) as http:
                    said = http.post(url + "/v1/chat/completions", json=QUESTION).json()
                assert said["choices"][0]["message"]["content"] == ANSWER
                return json.loads(client.last_receipt.receipt.envelope.payload)

            assert (answered()["model"], before != after) == (before, True)
            worker.process.send_signal(signal.SIGHUP)
            began = time.monotonic()
            while client.verify().bundle.evidence.artifacts != (before, after):
                assert time.monotonic() < began + 60
                time.sleep(0.2)
            told: dict[str, object] = {}
            while told.get("model") != after:
                assert time.monotonic() < began + 120
                told = answered()
            assert told["artifacts"] == [before, after]
            worker.process.send_signal(signal.SIGHUP)  # nothing moved
            assert answered()["model"] == after
        finally:
            worker.stop()
    assert "instead of what was there" in (tmp_path / "worker.log").read_text()
