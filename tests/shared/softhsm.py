"""A token of SoftHSM in a folder of a test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
)
PIN = "canary-pin-31415926"


@dataclass
class Token:
    """One token named `strong room` under `root`; `env` is what a process needs to see it."""

    root: Path

    def __post_init__(self) -> None:
        found = next((path for path in MODULES if Path(path).is_file()), None)
        assert found is not None, f"softhsm2-util is here, but none of {MODULES}"
        self.module = found
        (self.root / "tokens").mkdir(parents=True)
        configuration = self.root / "softhsm2.conf"
        configuration.write_text(
            f"directories.tokendir = {self.root / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.env = {"SOFTHSM2_CONF": str(configuration)}
        (self.root / "pin").write_text(PIN + "\n")
        self.tool("--init-token", "--free", "--label", "strong room", "--so-pin", "12345678", "--pin", PIN)

    def tool(self, *words: str | Path) -> None:
        subprocess.run(
            [str(shutil.which("softhsm2-util")), *map(str, words)],
            env={**os.environ, **self.env},
            capture_output=True,
            check=True,
            timeout=60,
        )

    def uri(self, name: str = "signer", source: str | None = "file", *, pin: Path | None = None) -> str:
        """The address of a key, with the file or the variable of its PIN, or none."""
        file = pin or self.root / "pin"
        where = {None: "", "file": f"&pin-source=file:{file}", "env": "&pin-source=env:TOKEN_PIN"}[source]
        return f"pkcs11:token=strong%20room;object={name}?module-path={self.module}{where}"

    def python(self, code: str) -> str:
        """Python with the token open as `session`, in a process of its own, for the module keeps its state in its process."""
        begin = f"import pkcs11, sys\ntoken = pkcs11.lib({self.module!r}).get_token(token_label='strong room')\n"
        whole = f"{begin}with token.open(rw=True, user_pin={PIN!r}) as session:\n"
        whole += "".join(f"    {line}\n" for line in code.splitlines())
        command = [sys.executable, "-c", whole]
        env = {**os.environ, **self.env}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout
