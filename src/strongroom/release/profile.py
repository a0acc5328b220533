"""Profiles: whether a broker may have anything to do with simulated TEEs.

Knows: the two profiles. Does not know: what is appraised. Production refuses to start beside a simulator or under an
installation's own root; development has to be asked for by its name, each time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from strongroom.errors import SimulationNotAccepted, UsageError
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import TrustAnchor

PRODUCTION = "production"
DEVELOPMENT = "development"
SIMULATOR = "strongroom_sim"


def check_profile(profile: str, anchors: Sequence[TrustAnchor]) -> None:
    """Return if a broker of `profile` may start with `anchors`. Raises `UsageError` or `SimulationNotAccepted`."""
    if profile not in {PRODUCTION, DEVELOPMENT}:
        raise UsageError("a profile is production or development", remedy="Choose one by its name.")
    if not anchors:
        raise UsageError("a broker without a trust anchor can appraise nothing", remedy="Name at least one anchor.")
    if profile == DEVELOPMENT:
        return
    if any(anchor.root_class is RootClass.INSTALLATION for anchor in anchors):
        raise SimulationNotAccepted(
            "a production broker takes no installation's own root",
            detail="anchors",
            remedy="Remove this anchor, or start with --profile development.",
        )
    if importlib.util.find_spec(SIMULATOR) is not None:
        raise SimulationNotAccepted(
            "a production broker does not start where the simulator is installed",
            detail=SIMULATOR,
            remedy="Uninstall strongroom-sim, or start with --profile development.",
        )
