"""A broker whose machine's clock is set back and ahead, over HTTP, across starts."""

import pytest

pytest.importorskip("strongroom_sim")

from audit_world import LEASE_SECONDS, AuditedBroker, AuditedWorker

from strongroom.errors import ClockWrong
from strongroom.records.release import PURPOSE_RELEASE
from strongroom.records.revocation import About, Subject
from strongroom.release.client import BrokerClient
from strongroom.release.clock import WatchedClock
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer

YEAR = 365 * 86_400


class Machine:
    """A broker on a machine whose clock anybody sets; `passes` lets time pass on both its clocks."""

    def __init__(self, folder):
        self.world = AuditedBroker(folder)
        self.wall, self.boot = float(self.world.now), 100.0

    def passes(self, seconds):
        self.wall, self.boot = self.wall + seconds, self.boot + seconds

    def serve(self):
        return BackgroundServer(broker_app(self.world.broker, clock=WatchedClock(lambda: self.wall, lambda: self.boot)))

    def client(self, server, clock=None):
        return BrokerClient(
            server.url,
            fingerprint=self.world.identity.fingerprint,
            identity=self.world.owner,
            clock=clock or (lambda: self.wall),
        )


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.world.broker.close()


def test_a_clock_set_back_stops_decisions_and_never_revives_a_lease(machine):
    world = machine.world
    worker = AuditedWorker(world).obtain()
    right = machine.wall
    with machine.serve() as server:
        client = machine.client(server)
        machine.passes(LEASE_SECONDS)
        client.create_key("later", "models")  # a leaf after the lease's end
        assert [lease.state.value for lease in client.leases()] == ["expired"]
        machine.wall = right + 1.0  # while the lease would be alive
        with pytest.raises(ClockWrong):
            client.challenge(PURPOSE_RELEASE)
        after = machine.client(server, clock=lambda: right + LEASE_SECONDS)
        assert [lease.state.value for lease in after.leases()] == ["expired"]
        assert after.revoke_subject(Subject(About.POLICY, "models")).leases == ()
        machine.wall = right + LEASE_SECONDS - 10  # a little behind
        assert client.challenge(PURPOSE_RELEASE).expires == right + LEASE_SECONDS + 120
    assert worker.lease
    machine.wall = right
    with machine.serve() as server, pytest.raises(ClockWrong):  # a start helps nobody
        machine.client(server).challenge(PURPOSE_RELEASE)


def test_a_clock_that_jumps_ahead_leaves_no_trace_once_it_is_right(machine):
    right = machine.wall
    with machine.serve() as server:
        client = machine.client(server)
        client.challenge(PURPOSE_RELEASE)
        size = machine.world.broker.store.read(lambda reader: reader.log_size())
        machine.wall = right + YEAR
        with pytest.raises(ClockWrong):
            client.challenge(PURPOSE_RELEASE)
        with pytest.raises(ClockWrong):
            client.create_key("too-early", "models")
        assert machine.world.broker.store.read(lambda reader: reader.log_size()) == size
        machine.wall = right
        machine.passes(5)
        assert client.challenge(PURPOSE_RELEASE).expires == int(machine.wall) + 120
