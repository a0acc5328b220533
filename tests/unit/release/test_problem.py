import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strongroom.errors
from strongroom.errors import AppraisalRefused, NotAuthorised, ReleaseRefused, ServiceUnavailable, StrongroomError
from strongroom.release.problem import from_problem, to_problem

TREE = [
    kind
    for kind in vars(strongroom.errors).values()
    if isinstance(kind, type) and issubclass(kind, StrongroomError) and kind is not AppraisalRefused
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_comes_back_as_itself(kind):
    back = from_problem(to_problem(kind("what happened", detail="where", remedy="what to do")), 500)
    assert (type(back), back.message, back.detail, back.remedy) == (kind, "what happened", "where", "what to do")


def test_an_appraisals_failed_checks_come_back():
    back = from_problem(to_problem(AppraisalRefused("no", failed=("a.b", "c"))), 403)
    assert (type(back), back.failed, back.detail) == (AppraisalRefused, ("a.b", "c"), "a.b, c")
    assert back.reasons == ("did not pass", "did not pass")


def test_each_of_them_comes_with_what_usually_makes_it_fail():
    back = from_problem(to_problem(AppraisalRefused("no", failed=("events.replay", "policy.configuration"))), 403)
    replay, configuration = back.shown()
    assert "boot the TEE again" in replay
    assert "configured otherwise" in configuration


@pytest.mark.parametrize(("status", "kind"), [(401, NotAuthorised), (403, ReleaseRefused), (418, ServiceUnavailable)])
def test_an_unknown_code_is_judged_by_its_status(status, kind):
    assert type(from_problem(b'{"code":"from.the.future","message":"m"}', status)) is kind


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["code", "message", "detail", "checks"]),
        st.none() | st.text() | st.integers() | st.lists(st.text()),
    ).map(lambda d: json.dumps(d).encode())
)
def test_whatever_a_peer_says_one_of_our_errors_comes_of_it(body):
    assert isinstance(from_problem(body, 403), StrongroomError)


def test_a_peers_words_are_cut_and_cleaned():
    back = from_problem(json.dumps({"code": "usage", "message": "\x1b[31m" + "x" * 5000}).encode(), 400)
    assert len(back.message) <= 1024
    assert "\x1b" not in back.message
