"""A broker's time: it never goes below what was logged, whatever the machine's clock does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ClockWrong, LeaseEnded, NonceReused
from strongroom.records import codec
from strongroom.records.release import LeaseState
from strongroom.release.attempts import FORGET_SECONDS, MAX_JUDGEMENTS
from strongroom.release.clock import AHEAD_SECONDS, BEHIND_SECONDS, WatchedClock, decision_time
from strongroom.release.leaves import key_event

TIMES = st.integers(0, 2**40)


@given(now=TIMES, logged=TIMES)
def test_a_decision_is_never_below_the_log_and_never_on_a_clock_that_is_far_behind(now, logged):
    if logged - now > BEHIND_SECONDS:
        with pytest.raises(ClockWrong):
            decision_time(now, logged)
    else:
        assert decision_time(now, logged) == max(now, logged)


def test_a_clock_that_goes_with_the_machine_is_believed():
    wall, boot = [1000.0], [5.0]
    clock = WatchedClock(lambda: wall[0], lambda: boot[0])
    assert clock() == 1000.0
    wall[0], boot[0] = wall[0] + 10 * AHEAD_SECONDS, boot[0] + 10 * AHEAD_SECONDS
    assert clock() == wall[0]
    wall[0] += AHEAD_SECONDS
    assert clock() == wall[0]


def test_a_clock_that_jumps_ahead_is_refused_until_it_is_set_right():
    wall = [1000.0]
    clock = WatchedClock(lambda: wall[0], lambda: 5.0)
    clock()
    wall[0] += AHEAD_SECONDS + 1
    with pytest.raises(ClockWrong) as caught:
        clock()
    assert caught.value.detail == "clock.ahead"
    wall[0] = 1001.0
    assert clock() == 1001.0


def test_a_clock_set_back_is_watched_from_its_first_reading():
    wall = [1_000_000.0]
    clock = WatchedClock(lambda: wall[0], lambda: 5.0)
    clock()
    wall[0] = 10.0
    assert clock() == 10.0  # that this is behind the log, the log says
    wall[0] = 1_000_000.0 + AHEAD_SECONDS
    assert clock() == wall[0]


def test_a_clock_that_was_set_back_a_little_stands_still_at_the_log(world, worker):
    request = world.request(worker, world.prepared())
    answer = world.release(request)
    granted = world.now
    world.now -= BEHIND_SECONDS
    assert world.challenge().expires == granted + 120
    renewed = world.renew(worker, answer.lease_id)
    assert renewed.lease_seconds == answer.lease_seconds
    (lease,) = world.admin.leases(now=granted)
    assert (lease.granted, lease.expires) == (granted, granted + answer.lease_seconds)
    assert world.leaves()[-1].time == granted


def test_a_clock_that_was_set_back_far_decides_nothing_and_refuses_without_using_up_the_nonce(world, worker):
    request = world.request(worker, world.prepared())
    world.now += 50
    world.admin.create_key("another", "policy", who=world.who, now=world.now)
    world.now -= BEHIND_SECONDS + 1
    before = world.log_size()
    for attempt in (lambda: world.release(request), world.challenge):
        with pytest.raises(ClockWrong) as caught:
            attempt()
        assert caught.value.detail == "clock.behind"
    assert world.log_size() == before
    world.now += 2
    assert world.release(request).grants


def test_a_lease_that_is_over_stays_over_when_the_clock_goes_back(world, worker):
    answer = world.release(world.request(worker, world.prepared()))
    world.now += answer.lease_seconds
    world.admin.create_key("another", "policy", who=world.who, now=world.now)
    world.now -= 30
    with pytest.raises(LeaseEnded):
        world.renew(worker, answer.lease_id)


def test_a_start_with_a_clock_that_is_behind_the_log_decides_nothing(world, worker):
    wrapped = world.prepared()
    world.release(world.request(worker, wrapped))
    world.broker.close()
    world.open()
    world.now -= 1000
    with pytest.raises(ClockWrong):
        world.challenge()


def test_owners_end_leases_whatever_the_clock_says(world, worker):
    answer = world.release(world.request(worker, world.prepared()))
    logged = world.now
    now = world.broker.time(world.now - 10_000)
    (ended,) = world.admin.revoke_lease(answer.lease_id, who=world.who, now=now)
    assert (ended.state, now) == (LeaseState.REVOKED, logged)


def test_no_leaf_is_earlier_than_the_one_before_it(world):
    log = world.broker.log

    @settings(deadline=None)
    @given(times=st.lists(st.integers(0, 2**40), min_size=1, max_size=8))
    def in_any_order(times):
        for time in times:
            leaf = key_event("key", "wrapped", time=time, who=world.who)
            world.store.write(lambda transaction, leaf=leaf: log.append(transaction, leaf))
        found = [leaf.time for leaf in world.leaves()]
        assert found == sorted(found)
        assert found[-1] == log.time >= max(times)

    in_any_order()


def test_a_leaf_that_was_taken_back_leaves_no_time_behind(world):
    log = world.broker.log

    def half(transaction):
        log.append(transaction, key_event("key", "wrapped", time=world.now + 10_000, who=world.who))
        raise KeyError

    with pytest.raises(KeyError):
        world.store.write(half)
    assert world.store.read(log.time_in) == 0


def test_what_was_overtaken_is_judged_again_at_the_later_time(world, worker):
    """Somebody else's leaf, one second later, is logged while this request is judged."""
    request = world.request(worker, world.prepared())
    appraise, count = world.broker._judge._appraiser, []

    def overtaken(bundle, **about):
        verdict = appraise(bundle, **about)
        count.append(about["now"])
        if len(count) < 3:
            later = world.now + len(count)
            world.admin.create_key(f"key-{later}", "policy", who=world.who, now=later)
        return verdict

    world.broker._judge._appraiser = overtaken
    answer = world.release(request)
    assert count == [world.now, world.now + 1, world.now + 2]
    assert world.leaves()[-1].time == world.broker.log.time == world.now + 2
    assert codec.to_json(answer) == codec.to_json(world.release(request))


def test_whoever_is_overtaken_each_time_is_asked_to_come_again(world, worker):
    request = world.request(worker, world.prepared())
    appraise = world.broker._judge._appraiser

    def overtaken(bundle, **about):
        world.admin.create_key(f"key-{about['now']}", "policy", who=world.who, now=about["now"] + 1)
        return appraise(bundle, **about)

    world.broker._judge._appraiser = overtaken
    with pytest.raises(Exception, match="each time") as caught:
        world.release(request)
    assert caught.value.code == "service.unavailable"
    assert world.broker.log.time == world.now + MAX_JUDGEMENTS
    world.broker._judge._appraiser = appraise
    assert world.release(request).grants  # its nonce was not used up


def test_a_nonce_that_was_forgotten_stays_used_at_a_clock_that_stands_still(world, worker, another_worker):
    wrapped = world.prepared()
    used = world.request(worker, wrapped)
    world.release(used)
    world.now = used.challenge.expires + FORGET_SECONDS
    world.release(world.request(another_worker, wrapped))
    assert world.store.read(
        lambda reader: reader.is_consumed("challenge", used.challenge.nonce, used.challenge.expires)
    )
    world.now = used.challenge.expires - BEHIND_SECONDS + FORGET_SECONDS
    with pytest.raises(Exception, match="expired") as caught:
        world.release(used.__class__(used.challenge, used.bundle, ()))
    assert not isinstance(caught.value, NonceReused)
