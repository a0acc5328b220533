"""Provenance of images, as build platforms sign it."""

import json
from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.appraisal.provenance import parse_provenance
    from strongroom.errors import StrongroomError

STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "image", "digest": {"sha256": samples.IMAGE.removeprefix("sha256:")}}],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {
        "buildDefinition": {"externalParameters": {"n": 1.5}},
        "runDetails": {"builder": {"id": "https://b"}},
    },
}


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        found = parse_provenance(data)
        if not found.builder:
            raise AssertionError


def seeds() -> list[bytes]:
    return [json.dumps(STATEMENT).encode()]


if __name__ == "__main__":
    run(one, seeds)
