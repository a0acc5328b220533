"""Verify a worker, ask it something, and keep the receipt.

WORKER, POLICY, ANCHOR and FINGERPRINT come from the environment; `make serve` prints their values.
"""

import os
from pathlib import Path

import strongroom
from strongroom.records import codec

client = strongroom.Client(
    os.environ["WORKER"],
    policy=os.environ["POLICY"],
    anchor=os.environ["ANCHOR"],
    broker=os.environ["FINGERPRINT"],
    accept_simulated=True,
)
for check in client.verify().verdict.checks:
    print(check.status, check.id, check.detail)

for piece in client.stream("What is the capital of France?", max_tokens=24, temperature=0):
    print(piece, end="", flush=True)
print()

Path("receipt.json").write_bytes(codec.encode(client.last_receipt))
