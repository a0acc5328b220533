import pytest

from strongroom.crypto.signatures import generate_p256
from strongroom.errors import SimulationNotAccepted, StoreUnavailable, UsageError
from strongroom.records.digest import digest_bytes
from strongroom.records.verdict import RootClass
from strongroom.release.opening import open_broker
from strongroom.tee.anchors import INTEL_SGX_ROOT, TrustAnchor

OWN = TrustAnchor("tdx", digest_bytes(b"own"), RootClass.INSTALLATION, "own")
OWNER = generate_p256().public_key()


def test_a_broker_is_the_same_after_each_start(tmp_path):
    fingerprints = set()
    for _ in range(2):
        broker = open_broker(tmp_path, anchors=[INTEL_SGX_ROOT], owners=[OWNER], profile="development")
        fingerprints.add(broker.identity.fingerprint)
        broker.close()
    assert len(fingerprints) == 1


def test_a_refused_profile_makes_nothing(tmp_path):
    with pytest.raises(SimulationNotAccepted):
        open_broker(tmp_path / "state", anchors=[OWN], owners=[OWNER])
    assert not (tmp_path / "state").exists()


def test_a_start_that_fails_lets_go_of_the_database(tmp_path):
    with pytest.raises(UsageError, match="owner"):
        open_broker(tmp_path, anchors=[INTEL_SGX_ROOT], owners=[], profile="development")
    open_broker(tmp_path, anchors=[INTEL_SGX_ROOT], owners=[OWNER], profile="development").close()


def test_a_database_of_another_broker_is_refused(tmp_path):
    for name in ("a", "b"):
        broker = open_broker(tmp_path / name, anchors=[INTEL_SGX_ROOT], owners=[OWNER], profile="development")
        broker.administration.create_key("key", "policy", who=digest_bytes(b"who"), now=0)
        broker.close()
    (tmp_path / "a" / "broker.db").replace(tmp_path / "b" / "broker.db")
    with pytest.raises(StoreUnavailable, match=r"checkpoint|root key"):
        open_broker(tmp_path / "b", anchors=[INTEL_SGX_ROOT], owners=[OWNER], profile="development")
