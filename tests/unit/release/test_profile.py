import importlib.util

import pytest

from strongroom.errors import SimulationNotAccepted, UsageError
from strongroom.records.digest import digest_bytes
from strongroom.records.verdict import RootClass
from strongroom.release.profile import check_profile
from strongroom.tee.anchors import INTEL_SGX_ROOT, TrustAnchor

OWN = TrustAnchor("tdx", digest_bytes(b"own"), RootClass.INSTALLATION, "own")


@pytest.fixture
def without_simulator(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


@pytest.mark.usefixtures("without_simulator")
def test_production_takes_the_vendors_roots():
    check_profile("production", [INTEL_SGX_ROOT])


@pytest.mark.usefixtures("without_simulator")
def test_production_refuses_an_installations_root_beside_any_other():
    with pytest.raises(SimulationNotAccepted, match="own root"):
        check_profile("production", [INTEL_SGX_ROOT, OWN])


def test_production_refuses_to_start_where_the_simulator_is_installed():
    pytest.importorskip("strongroom_sim")
    with pytest.raises(SimulationNotAccepted, match="simulator"):
        check_profile("production", [INTEL_SGX_ROOT])


def test_development_is_said_by_name():
    check_profile("development", [OWN])
    for name in ("", "dev", "Production"):
        with pytest.raises(UsageError):
            check_profile(name, [OWN])


def test_no_anchor_is_never_enough():
    for name in ("production", "development"):
        with pytest.raises(UsageError, match="anchor"):
            check_profile(name, [])
