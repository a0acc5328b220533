"""Signed envelopes (DSSE)."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.appraisal.policies import open_policy
    from strongroom.errors import StrongroomError
    from strongroom.records.envelope import Envelope


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        envelope = Envelope.from_bytes(data)
        if Envelope.from_bytes(envelope.to_bytes()) != envelope:
            raise AssertionError
        open_policy(envelope, [samples.ED25519.public_key(), samples.P256.public_key(), samples.P384.public_key()])


def seeds() -> list[bytes]:
    return [samples.envelope()]


if __name__ == "__main__":
    run(one, seeds)
