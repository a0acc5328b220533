"""The demo's stack, left running: a broker, a worker with a real model, and your own proxy before it, until Ctrl-C.

Knows: what to print so that a person can go on by themselves. Does not know: the story.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

from strongroom.demo import processes
from strongroom.demo.model import fetch_model
from strongroom.demo.stack import KEY_ID, MODEL_NAME, POLICY_ID, Stack, stack

POLL_SECONDS = 1.0


def stay(*, as_json: bool) -> None:
    """Start everything, say how to talk to it, wait for Ctrl-C or for the worker to end, and clean up."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    model = fetch_model()
    with tempfile.TemporaryDirectory(prefix="strongroom-serve-") as folder, stack(Path(folder)) as made:
        facts = _bring_up(made, model)
        print(json.dumps(facts) if as_json else _instructions(facts), flush=True)
        while not stop.wait(POLL_SECONDS) and made.worker.process.process.poll() is None:
            pass
        if not stop.is_set() and not as_json:
            print(farewell(made.worker.process.outcome()), flush=True)


def farewell(worker: processes.Outcome) -> str:
    """Why all of it ends though nobody pressed Ctrl-C."""
    reason = worker.document.get("error")
    said = f"{reason['message']} [{reason['code']}]" if isinstance(reason, dict) else f"exit code {worker.code}"
    return f"The worker has ended: {said}. What was started for it ends, too."


def _bring_up(made: Stack, model: Path) -> dict[str, str]:
    made.make_installation()
    processes.must("keys", "new", made.identity)
    made.start_broker()
    folder = made.owner / "model"
    folder.mkdir()
    shutil.copyfile(model, folder / "model.gguf")
    processes.must("keys", "create", KEY_ID, "--policy-id", POLICY_ID, *made.at_broker())
    artifact = made.seal(folder, MODEL_NAME)
    policy = made.publish(made.policy(artifact, made.configuration(MODEL_NAME)))
    made.wait_ready(made.start_worker(MODEL_NAME))
    proxy = made.start_proxy(policy)
    return {
        "worker": made.worker.url,
        "proxy": f"{proxy}/v1",
        "policy": str(policy),
        "anchor": str(made.anchor),
        "broker": made.broker.url,
        "broker_fingerprint": made.broker.fingerprint,
        "identity": str(made.identity),
        "model": str(folder / "model.gguf"),
    }


def _instructions(facts: dict[str, str]) -> str:
    trust = "--policy $POLICY --anchor $ANCHOR --broker-fingerprint $FINGERPRINT --accept-simulated"
    owner = "--broker $BROKER --broker-fingerprint $FINGERPRINT --identity $OWNER"
    return f"""
A SIMULATED TEE, which protects nothing, serves SmolLM2-135M-Instruct until you press Ctrl-C.

In another terminal:
  export PATH="{Path(sys.executable).parent}:$PATH"
  export WORKER={facts["worker"]} BROKER={facts["broker"]}
  export FINGERPRINT={facts["broker_fingerprint"]}
  export POLICY={facts["policy"]}
  export ANCHOR={facts["anchor"]}
  export OWNER={facts["identity"]}
  export MODEL={facts["model"]}

Talk to it, verified and sealed:
  strongroom chat $WORKER "What is the capital of France?" {trust}

Let any OpenAI client talk to it, through your own proxy:
  export OPENAI_BASE_URL={facts["proxy"]} OPENAI_API_KEY=none

See who holds keys, and end it (the worker drains, wipes and stops):
  strongroom leases list {owner}
"""
