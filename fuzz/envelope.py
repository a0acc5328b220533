"""Signed envelopes (DSSE), and bundles of model signatures around them."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.appraisal.policies import open_policy
    from strongroom.errors import StrongroomError
    from strongroom.records.digest import digest_bytes
    from strongroom.records.envelope import Envelope
    from strongroom.sealed.signing import SignedFiles, sign_files, verify_files


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        envelope = Envelope.from_bytes(data)
        if Envelope.from_bytes(envelope.to_bytes()) != envelope:
            raise AssertionError
        open_policy(envelope, [samples.ED25519.public_key(), samples.P256.public_key(), samples.P384.public_key()])
    with suppress(StrongroomError):
        verify_files(data, samples.P256.public_key())


def seeds() -> list[bytes]:
    hexadecimal = digest_bytes(b"file").removeprefix("sha256:")
    return [samples.envelope(), sign_files(SignedFiles("model", "sha256", {"a/file": hexadecimal}), samples.P256)]


if __name__ == "__main__":
    run(one, seeds)
