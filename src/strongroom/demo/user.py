"""The user of the demo, in a process of its own: verifies the worker, then asks through the official openai client.

Knows: only what a user holds: an address, a policy, anchors, the broker's fingerprint.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from strongroom.client.client import Client
from strongroom.errors import StrongroomError
from strongroom.records import codec


def main(told: dict[str, str]) -> dict[str, object]:
    """Verify, ask, and save the receipt. `told` has url, policy, anchor, broker, prompt, user, max_tokens, receipt; perhaps enroller."""
    client = Client(
        told["url"],
        policy=told["policy"],
        anchor=told["anchor"],
        enrollers=[told["enroller"]] if "enroller" in told else [],
        broker=told["broker"],
        accept_simulated=True,
    )
    began = time.monotonic()
    verification = client.verify()
    verify_seconds = time.monotonic() - began
    openai = client.openai()
    asked = time.monotonic()
    stream = openai.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": told["prompt"]}],
        user=told["user"],
        stream=True,
        temperature=0,
        max_tokens=int(told["max_tokens"]),
    )
    pieces, first = [], 0.0
    for event in stream:
        if event.choices and event.choices[0].delta.content:
            first = first or time.monotonic()
            pieces.append(event.choices[0].delta.content)
    ended = time.monotonic()
    document = client.last_receipt
    Path(told["receipt"]).write_bytes(codec.encode(document))
    return {
        "answer": "".join(pieces),
        "pieces": len(pieces),
        "level": verification.level.value,
        "checks": len(verification.verdict.checks),
        "verify_seconds": round(verify_seconds, 3),
        "first_token_seconds": round(first - asked, 3),
        "seconds": round(ended - asked, 3),
    }


if __name__ == "__main__":
    try:
        print(json.dumps(main(json.loads(sys.stdin.read()))))
    except StrongroomError as error:
        print(json.dumps({"error": error.as_dict()}))
        sys.exit(error.exit_code)
