"""Checkpoints of a log (signed notes) and verifier keys."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.crypto.signatures import raw_public
    from strongroom.errors import StrongroomError
    from strongroom.receipts import note

ORIGIN, PUBLIC = "strongroom.broker/fuzz", raw_public(samples.ED25519)


def one(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(StrongroomError):
        note.open_checkpoint(text, ORIGIN, PUBLIC)
    with suppress(StrongroomError):
        name, key = note.parse_verifier_key(text)
        if note.verifier_key(name, key) != text:
            raise AssertionError(text)


def seeds() -> list[bytes]:
    signed = note.sign_checkpoint(note.Checkpoint(ORIGIN, 7, bytes(32)), ORIGIN, samples.ED25519)
    return [signed.encode(), note.verifier_key(ORIGIN, PUBLIC).encode()]


if __name__ == "__main__":
    run(one, seeds)
