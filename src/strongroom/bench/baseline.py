"""The baseline of `bench inference`: the same engine, with the same parameters, behind its own HTTP server.

A process of its own: `python -m strongroom.bench.baseline MODEL THREADS CONTEXT`. It prints its address as one line of JSON, then
serves until its standard input closes.
"""

from __future__ import annotations

import json
import sys
import tempfile

import xllamacpp

from strongroom.bench.gateway import in_memory
from strongroom.engines.llama import check_settings, parameters


def main(model: str, threads: int, context: int) -> None:
    """Serve `model` until standard input ends."""
    descriptor = in_memory(model)
    settings = check_settings({"name": "baseline", "threads": threads, "context": context, "slots": 1})
    with tempfile.TemporaryDirectory() as scratch:
        told = parameters(descriptor, settings, scratch)
        told.hostnames, told.port, told.api_keys = ["127.0.0.1"], 0, []
        server = xllamacpp.Server(told)
        print(json.dumps({"url": server.listening_address}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))  # the number of slots is 1
