"""What goes into a bundle, and what stays out of it."""

import pytest

from strongroom.audit import bundle as files
from strongroom.audit.bundle import Scope
from strongroom.audit.gather import gather
from strongroom.errors import LogInvalid, MalformedRecord, UsageError
from strongroom.records import codec
from strongroom.records.audit import LoggedLeaf
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Leaf

SPAN = Scope(None, None, 0, codec.MAX_INTEGER)


def events(bundle):
    return [
        codec.decode(Leaf, codec.decode(LoggedLeaf, data).leaf).event for data in bundle.folder(files.LEAVES).values()
    ]


def test_a_lease_comes_with_its_policy_and_its_keys_and_not_with_those_of_others(past):
    bundle = past.world.bundle(lease=past.one.lease)
    assert events(bundle) == ["policy", "key", "key", "release", "renewal", "receipts"]
    assert len(bundle.folder(files.POLICIES)) == 1


def test_the_same_is_gathered_the_same(past):
    assert past.world.bundle(lease=past.one.lease) == past.world.bundle(lease=past.one.lease)


@pytest.mark.parametrize("wanted", [{"lease": "none"}, {"policy": "none"}, {"since": 1, "until": 2}])
def test_a_scope_without_anything_in_it_is_refused(past, wanted):
    with pytest.raises(UsageError):
        past.world.bundle(**wanted)


def test_a_broker_that_shows_no_page_is_refused(past):
    with pytest.raises(LogInvalid):
        gather([], SPAN, identity=past.world.broker.identity_envelope, broker=past.trust.broker)


@pytest.mark.parametrize("data", [b"{}", b"[]", b"not JSON", b'{"payloadType":"x"}'])
def test_a_receipt_that_is_none_is_refused(past, data):
    with pytest.raises(MalformedRecord):
        past.world.bundle(receipts=[data])


def test_receipts_lie_under_their_digests(past):
    names = {files.addressed(files.RECEIPTS, digest_bytes(receipt)) for receipt in past.receipts}
    assert set(past.whole.folder(files.RECEIPTS)) == names
