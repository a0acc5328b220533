"""One broker for all tests of this room: two workers, a renewal, receipts, a revocation; nothing changes it."""

import pytest

pytest.importorskip("strongroom_sim")

from audit_world import AuditedBroker, AuditedWorker


class Past:
    """What has happened at the broker, and the bundles of it."""

    def __init__(self, directory):
        self.world = AuditedBroker(directory)
        self.before = self.world.now
        self.world.now += 10
        self.one = AuditedWorker(self.world).obtain()
        self.world.now += 60
        self.one.renew()
        self.receipts = [self.one.receipt() for _ in range(3)]
        self.one.log_receipts()
        self.world.put_policy(2)
        self.other = AuditedWorker(self.world).obtain()
        self.world.now += 5
        self.world.act("revoke_lease", self.other.lease)
        self.trust = self.world.trust
        self.whole = self.world.bundle(receipts=self.receipts)


@pytest.fixture(scope="session")
def past(tmp_path_factory):
    made = Past(tmp_path_factory.mktemp("audited"))
    yield made
    made.world.broker.close()


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """Another broker, with a past of its own."""
    made = Past(tmp_path_factory.mktemp("elsewhere"))
    yield made
    made.world.broker.close()
