from hypothesis import given
from hypothesis import strategies as st

from strongroom.worker.lease import Term, boot_clock


@given(asked=st.floats(0, 1e6), seconds=st.integers(1, 86_400), passed=st.floats(0, 1e6))
def test_a_term_is_renewed_before_it_ends_and_nothing_waits_beyond_its_end(asked, seconds, passed):
    term, now = Term(asked, seconds), asked + passed
    assert term.until_renewal(asked) < seconds
    assert term.until_renewal(now) >= 0
    assert term.until_renewal(asked) < term.drains - asked
    assert term.drains < term.ends
    assert now + term.until_retry(now) <= max(now, term.drains)
    assert now + term.left(now) <= max(now, term.ends)
    if not term.over(now):
        assert term.until_retry(now) > 0


def test_the_boot_clock_goes_on():
    assert boot_clock() <= boot_clock()
