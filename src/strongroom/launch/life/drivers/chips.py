"""Software TPMs whose endorsement keys somebody has certified, made before their machine starts.

Knows: swtpm's own tool, and its configuration (swtpm_setup.conf(5)), which names who certifies. Does not know: who runs the chip then.
"""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.launch.life import processes

SETUP = "swtpm_setup"


def make(state: Path, config: Path) -> None:
    """A new chip, whose memory lies in the folder `state`. Raises `HypervisorUnavailable` with the tool's last words."""
    words = [SETUP, "--tpm2", "--tpmstate", str(state), "--create-ek-cert"]
    processes.run([*words, "--config", os.path.abspath(config)])  # noqa: PTH100 (links stay)
