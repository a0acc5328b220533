"""Cosignatures, and bodies of add-checkpoint: what logs send to witnesses, and what comes back."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.crypto.signatures import raw_public
    from strongroom.errors import StrongroomError
    from strongroom.receipts import cosignature, note, witness

ORIGIN = "strongroom.broker/fuzz"
STATE = note.Checkpoint(ORIGIN, 7, bytes(32))
WITNESS = cosignature.Witness("witness.example/fuzz", raw_public(samples.ED25519))


def one(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(StrongroomError):
        cosignature.cosignatures(text, [WITNESS])
    with suppress(StrongroomError):
        line = cosignature.pick_line(STATE.text(), text, WITNESS)
        if line not in text:
            raise AssertionError(text)
    with suppress(StrongroomError):
        if cosignature.Witness.parse(text).key != text:
            raise AssertionError(text)
    with suppress(StrongroomError):
        if witness.parse_submission(data).to_bytes() != data:
            raise AssertionError(data)
    with suppress(StrongroomError):
        if f"{witness.parse_size(data)}\n".encode() != data:
            raise AssertionError(data)


def seeds() -> list[bytes]:
    signed = note.sign_checkpoint(STATE, ORIGIN, samples.ED25519)
    line = cosignature.cosign(STATE, WITNESS.name, samples.ED25519, time=samples.NOW)
    body = witness.add_checkpoint_body(3, [bytes(32), bytes(32)], signed)
    return [(signed + line).encode(), line.encode(), WITNESS.key.encode(), body, b"7\n"]


if __name__ == "__main__":
    run(one, seeds)
