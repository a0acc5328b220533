"""A software TPM (swtpm) under a certificate authority of its own, as a process that ends with the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.tee.tpm import Collector
from strongroom.tee.tpm.device import Channel


@dataclass(frozen=True)
class SoftwareTpm:
    """A TPM at `port`; `issuer` and `root` (PEM) stand above its endorsement keys' certificates."""

    port: int
    issuer: str
    root: str

    def connect(self) -> Channel:
        """A TPM without a resource manager serves one guest after another."""
        return Channel(socket.create_connection(("127.0.0.1", self.port), timeout=10).detach())

    def collector(self) -> Collector:
        return Collector(connect=self.connect)


@contextmanager
def software_tpm(place: Path) -> Iterator[SoftwareTpm]:
    """A new TPM, certified by a new authority; both live in `place`."""
    ca, state = place / "ca", place / "state"
    for folder in (ca, state):
        folder.mkdir(parents=True)
    options = {
        "statedir": ca,
        "signingkey": ca / "signkey.pem",
        "issuercert": ca / "issuer.pem",
        "certserial": ca / "serial",
    }
    (place / "ca.conf").write_text("".join(f"{name} = {value}\n" for name, value in options.items()))
    (place / "ca.options").write_text(
        "--platform-manufacturer strongroom\n--platform-version 1\n--platform-model test\n"
    )
    (place / "setup.conf").write_text(
        f"create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {place / 'ca.conf'}\n"
        f"create_certs_tool_options = {place / 'ca.options'}\nactive_pcr_banks = sha256\n"
    )
    setup, tpm = (str(shutil.which(program)) for program in ("swtpm_setup", "swtpm"))
    made = subprocess.run(
        (setup, "--tpm2", "--tpmstate", str(state), "--create-ek-cert", "--config", str(place / "setup.conf")),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stdout.decode() + made.stderr.decode()
    port = _two_free_ports()
    server = subprocess.Popen(
        (
            tpm, "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear",
            "--server", f"type=tcp,bindaddr=127.0.0.1,port={port}", "--ctrl", f"type=tcp,bindaddr=127.0.0.1,port={port + 1}",
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _await_port(port, server)
        yield SoftwareTpm(port, (ca / "issuer.pem").read_text(), (ca / "swtpm-localca-rootca-cert.pem").read_text())
    finally:
        server.terminate()
        server.wait(timeout=10)


def _two_free_ports() -> int:
    """A port that is free and so is the next one, which is for control."""
    for port in range(21_000, 31_000, 2):
        try:
            with socket.socket() as one, socket.socket() as other:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 1))
        except OSError:
            continue
        return port
    pytest.fail("no two free ports")


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("swtpm does not answer")
