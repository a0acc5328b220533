"""A server on PyTorch as a confined engine, on the processor and on a GPU, from the memory that an artifact was opened into."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import torch
import torch_server
from safetensors.torch import save_file

from strongroom.engines.server import Needs, ServerProcess

MANY = 24


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(7)
    mix, letters = torch_server.WIDTH, (torch_server.LETTERS, torch_server.WIDTH)
    return {"mix": torch.randn(mix, mix, generator=made) / 16, "letters": torch.randn(letters, generator=made)}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_answers_from_memory_on_the_device_that_it_was_given(
    device: str, weights: dict[str, torch.Tensor], tmp_path: Path
):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("missing program: a GPU")
    save_file(weights, tmp_path / "model.safetensors")
    model = os.memfd_create("model")
    os.write(model, (tmp_path / "model.safetensors").read_bytes())
    path = os.pathsep.join(entry for entry in sys.path if entry)
    program = str(Path(torch_server.__file__))
    command = ["/usr/bin/env", f"PYTHONPATH={path}", sys.executable, program, "{port}", "{folder}", "{name}", device]

    async def story() -> None:
        engine = ServerProcess(command, profile="development", needs=Needs(unsafe_gpus=device == "cuda"), patience=120)
        engine.spawn()
        try:
            await engine.load_folder({"model.safetensors": model}, {"name": "m"})
            asked = {"prompt": "What is there?", "max_tokens": MANY}
            (answer,) = [json.loads(text) async for text in engine.generate("completions", asked)]
            streamed = [json.loads(text) async for text in engine.generate("completions", {**asked, "stream": True})]
        finally:
            await asyncio.to_thread(engine.kill)
        assert answer["system_fingerprint"] == device
        expected = "".join(torch_server.tokens(weights, asked["prompt"], MANY))
        assert answer["choices"][0]["text"] == expected
        assert "".join(event["choices"][0]["text"] for event in streamed) == expected

    asyncio.run(story())
    os.close(model)
