"""What steers a request comes from the worker alone, and is never half understood."""

import pytest

from strongroom.engines import steering
from strongroom.engines.steering import NONE, Steering
from strongroom.errors import MalformedMessage


def test_what_is_put_into_a_request_is_taken_out_again():
    told = Steering("salt", 2)
    assert steering.take(told.put_into({"prompt": "x"})) == (told, {"prompt": "x"})
    assert steering.take({"prompt": "x"}) == (NONE, {"prompt": "x"})


def test_a_clients_own_member_is_replaced():
    asked = {"prompt": "x", steering.MEMBER: {"cache_salt": "another tenant's", "adapter": 0}}
    assert steering.take(Steering("own").put_into(asked)) == (Steering("own"), {"prompt": "x"})


@pytest.mark.parametrize(
    "wrong",
    [1, "salt", [], {}, {"cache_salt": "x"}, {"cache_salt": 1, "adapter": None}, {"cache_salt": "", "adapter": -1},
     {"cache_salt": "", "adapter": True}, {"cache_salt": "", "adapter": None, "more": 1}],
    ids=str,
)  # fmt: skip
def test_what_no_worker_says_is_refused(wrong: object):
    with pytest.raises(MalformedMessage):
        steering.take({"prompt": "x", steering.MEMBER: wrong})
