"""What is said when the service ends by itself."""

from strongroom.demo.processes import Outcome
from strongroom.demo.stay_up import farewell


def test_a_worker_that_was_refused_says_by_what():
    ended = Outcome(1, {"error": {"message": "the lease is revoked", "code": "release.lease_ended", "remedy": "."}})
    assert farewell(ended).startswith("The worker has ended: the lease is revoked [release.lease_ended].")


def test_a_worker_that_was_killed_leaves_its_exit_code():
    assert "exit code -9" in farewell(Outcome(-9, {}))
