"""Verdict tokens (EAR in ES384) and owners' tokens (ES256)."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.appraisal import ear
    from strongroom.crypto.jose import verify_token
    from strongroom.crypto.signatures import fingerprint
    from strongroom.errors import StrongroomError
    from strongroom.records.verdict import Level, Verdict, passed
    from strongroom.release.owners import check_request, sign_request

REQUEST = {"broker": samples.IMAGE, "method": "GET", "path": "/v1/keys", "body": b"", "now": samples.NOW}
KNOWN = {fingerprint(samples.P256.public_key()): samples.P256.public_key()}


def one(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(StrongroomError):
        verify_token(text, samples.P384.public_key())
    with suppress(StrongroomError):
        ear.from_token(text, samples.P384.public_key())
    with suppress(StrongroomError):
        check_request(text, KNOWN, **REQUEST)  # type: ignore[arg-type]


def seeds() -> list[bytes]:
    verdict = Verdict(Level.SIMULATED, (passed("check"),), {}, samples.IMAGE, samples.IMAGE, "session", samples.NOW)
    tokens = [ear.to_token(verdict, samples.P384, issuer="broker"), sign_request(samples.P256, **REQUEST)]  # type: ignore[arg-type]
    return [token.encode() for token in tokens]


if __name__ == "__main__":
    run(one, seeds)
