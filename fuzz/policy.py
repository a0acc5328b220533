"""Policies as people write them (TOML). What is read is written, and read to the same again."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.appraisal.policies import from_toml, to_toml
    from strongroom.errors import StrongroomError


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        policy = from_toml(data.decode("utf-8", "replace"))
        if from_toml(to_toml(policy)) != policy:
            raise AssertionError


def seeds() -> list[bytes]:
    return [to_toml(samples.policy()).encode(), b"version = " + b"9" * 5000]


if __name__ == "__main__":
    run(one, seeds)
