"""From sealed weights to a verified user, with PyTorch as the engine: on the processor, and on a GPU that nothing has proved."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import httpx2
import pytest
import torch
import torch_server
from safetensors.torch import save_file

from strongroom.client.client import Client

MANY = 32


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.timeout(240)
def test_weights_are_opened_into_an_engine_on_torch_and_a_verified_user_is_answered_with_a_receipt(
    device, new_estate, tmp_path
):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("missing program: a GPU")
    estate = new_estate()
    estate.start()
    made = torch.Generator().manual_seed(11)
    shape = torch_server.LETTERS, torch_server.WIDTH
    weights = {
        "mix": torch.randn(shape[1], shape[1], generator=made) / 16,
        "letters": torch.randn(shape, generator=made),
    }
    folder = tmp_path / "plain"
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    broker = estate.client(owner=True)
    broker.create_key("model", "policy")
    opener = estate.seal(folder, "torch")
    policy = estate.policy(opener.digest)
    broker.put_policy(estate.signed(policy))
    path = ":".join(entry for entry in sys.path if entry)
    words = ["/usr/bin/env", f"PYTHONPATH={path}", sys.executable, str(Path(torch_server.__file__))]
    command = shlex.join([*words, "{port}", "{folder}", "{name}", device])
    options = ["--engine-command", command, *(["--engine-unsafe-gpus"] if device == "cuda" else [])]
    with estate.served_chip(estate.host / "tee") as tee:
        worker = estate.worker("torch", tee, tmp_path / "worker.log", *options)
        try:
            url = worker.line(state="serving")["detail"]
            client = Client(url, policy=policy, anchor=estate.anchor, broker=estate.fingerprint, accept_simulated=True)
            http = httpx2.Client(transport=client.transport(), timeout=120)
            body = {"model": "default", "prompt": "What is there?", "max_tokens": MANY}
            answer = http.post(url + "/v1/completions", json=body).json()
            assert answer["system_fingerprint"] == device
            assert answer["choices"][0]["text"] == "".join(torch_server.tokens(weights, body["prompt"], MANY))
            receipt = json.loads(client.last_receipt.receipt.envelope.payload)
            assert (receipt["model"], receipt["outcome"]) == (opener.digest, "complete")
        finally:
            worker.stop()
