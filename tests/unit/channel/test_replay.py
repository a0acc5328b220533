"""The memory of used encapsulations."""

import threading

import pytest

from strongroom.channel.replay import UsedEncapsulations
from strongroom.errors import RequestReplayed, ServiceUnavailable


def test_an_encapsulation_is_used_once():
    used = UsedEncapsulations()
    used.use(b"one")
    used.use(b"two")
    with pytest.raises(RequestReplayed):
        used.use(b"one")
    assert len(used) == 2


def test_a_full_memory_refuses_and_forgets_nothing():
    used = UsedEncapsulations(capacity=2)
    used.use(b"one")
    used.use(b"two")
    with pytest.raises(ServiceUnavailable):
        used.use(b"three")
    with pytest.raises(RequestReplayed):
        used.use(b"one")
    assert len(used) == 2


def test_of_many_threads_with_one_request_exactly_one_goes_on():
    used, start, passed = UsedEncapsulations(), threading.Barrier(8), []

    def attempt() -> None:
        start.wait()
        try:
            used.use(b"one")
        except RequestReplayed:
            return
        passed.append(1)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == [1]
