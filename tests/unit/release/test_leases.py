import dataclasses

import pytest

from strongroom.errors import LeaseEnded, ReleaseRefused
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Lease, LeaseState
from strongroom.release import leases

KEYSET, STATEMENT = digest_bytes(b"keyset"), digest_bytes(b"statement")
LEASE = Lease("lease", KEYSET, STATEMENT, "policy", ("key",), 100, 200, LeaseState.ACTIVE, 0, digest_bytes(b"chain"))


def test_there_is_no_grace():
    assert leases.check_active(LEASE, now=199) == LEASE
    with pytest.raises(LeaseEnded) as ended:
        leases.check_active(LEASE, now=200)
    assert ended.value.detail == "lease.expired"


def test_a_revoked_lease_stays_revoked_when_its_time_is_over():
    revoked = dataclasses.replace(LEASE, state=LeaseState.REVOKED)
    assert [leases.at(revoked, now).state for now in (150, 250)] == [LeaseState.REVOKED] * 2
    with pytest.raises(LeaseEnded) as ended:
        leases.check_active(revoked, now=150)
    assert ended.value.detail == "lease.revoked"


def test_an_unknown_lease_has_ended():
    with pytest.raises(LeaseEnded):
        leases.check_active(None, now=0)


def test_a_renewal_counts_from_when_it_was_decided():
    renewed = leases.renew(LEASE, token="a.b.c", now=150, seconds=30)
    assert (renewed.expires, renewed.renewals, renewed.granted) == (180, 1, 100)
    assert renewed.chain != LEASE.chain


def test_a_lease_belongs_to_one_keyset_and_one_statement():
    other = digest_bytes(b"other")
    leases.check_same_worker(LEASE, KEYSET, STATEMENT)
    for keyset, statement in ((other, STATEMENT), (KEYSET, other)):
        with pytest.raises(ReleaseRefused):
            leases.check_same_worker(LEASE, keyset, statement)


def test_names_of_leases_do_not_repeat_and_are_no_options_of_a_command_line():
    names = {leases.new_id() for _ in range(1000)}
    assert len(names) == 1000
    assert all(name.isalnum() for name in names)
