"""A maker of software TPMs: a certificate authority of this demo alone, which certifies the endorsement keys of its chips.

Knows: swtpm's own tools, `swtpm_setup` and `swtpm_localca`. Does not know: what the chips are for.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from strongroom.errors import Unavailable

SECONDS = 120
PROGRAMS = ("swtpm", "swtpm_setup", "swtpm_localca")


class Vendor:
    """One authority, in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first chip is."""
        self.root, self._issuer = folder / "ca" / "swtpm-localca-rootca-cert.pem", folder / "ca" / "issuer.pem"
        (folder / "ca").mkdir(parents=True)
        options = {
            "statedir": folder / "ca",
            "signingkey": folder / "ca" / "signkey.pem",
            "issuercert": self._issuer,
            "certserial": folder / "ca" / "serial",
        }
        (folder / "ca.conf").write_text("".join(f"{name} = {value}\n" for name, value in options.items()))
        (folder / "ca.options").write_text(
            "--platform-manufacturer strongroom\n--platform-version 1\n--platform-model demo\n"
        )
        self.config = folder / "setup.conf"
        self.config.write_text(
            f"create_certs_tool = {shutil.which('swtpm_localca')}\ncreate_certs_tool_config = {folder / 'ca.conf'}\n"
            f"create_certs_tool_options = {folder / 'ca.options'}\nactive_pcr_banks = sha256\n"
        )

    def make(self, state: Path) -> None:
        """A new chip whose memory lies in the new folder `state`. Raises `Unavailable`."""
        state.mkdir(mode=0o700, parents=True)
        words = ["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--create-ek-cert"]
        done = subprocess.run([*words, "--config", str(self.config)], capture_output=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise Unavailable(
                "swtpm_setup made no TPM", remedy=(done.stdout + done.stderr).decode("utf-8", "replace")[-600:]
            )

    def above(self) -> str:
        """The certificates above an endorsement key's, in PEM, the root last. There is a chip by now."""
        return self._issuer.read_text() + self.root.read_text()
