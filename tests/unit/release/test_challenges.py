import dataclasses

import pytest

from strongroom.errors import ReleaseRefused
from strongroom.release.challenges import LIFETIME_SECONDS, Challenger

NOW = 1_800_000_000
CHALLENGER = Challenger(b"s" * 32)


def test_a_challenge_holds_until_it_expires():
    challenge = CHALLENGER.issue("release", now=NOW)
    CHALLENGER.check(challenge, "release", now=NOW)
    CHALLENGER.check(challenge, "release", now=NOW + LIFETIME_SECONDS - 1)
    for now in (NOW + LIFETIME_SECONDS, NOW - 1):
        with pytest.raises(ReleaseRefused, match="expired"):
            CHALLENGER.check(challenge, "release", now=now)


def test_no_two_challenges_are_alike():
    assert len({CHALLENGER.issue("release", now=NOW).nonce for _ in range(50)}) == 50


def test_another_secret_does_not_recognise_it():
    with pytest.raises(ReleaseRefused, match="not one of"):
        Challenger(b"t" * 32).check(CHALLENGER.issue("release", now=NOW), "release", now=NOW)


def test_a_mac_is_compared_whole():
    challenge = CHALLENGER.issue("release", now=NOW)
    for mac in (b"", challenge.mac[:16], challenge.mac + b"\0"):
        with pytest.raises(ReleaseRefused, match="not one of"):
            CHALLENGER.check(dataclasses.replace(challenge, mac=mac), "release", now=NOW)


@pytest.mark.parametrize(
    "purpose", ["", "session", "release ", "renew:", "renew:a/b", "renew:" + "x" * 65, "renew:ä", "release\n"]
)
def test_a_purpose_that_no_broker_serves_gets_no_challenge(purpose):
    with pytest.raises(ReleaseRefused):
        CHALLENGER.issue(purpose, now=NOW)
