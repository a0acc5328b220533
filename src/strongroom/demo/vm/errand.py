"""A script of the owner's own on sealed data of the owner's own, in a machine that was started for it alone.

Knows: how a job's machine is configured, how its outputs and its receipt leave it, how both are checked. Does not know: what the
script is for.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom.demo import processes
from strongroom.demo.vm.site import GATEWAY, SECONDS, SHARE, Site
from strongroom.errors import LaunchFailed, Refused
from strongroom.launch.image.build import Base
from strongroom.records.digest import digest_bytes
from strongroom.records.launched import State

NAME, KEY = "demo-data", "demo-data"
MEBIBYTES = 100
SCRIPT = '''"""The owner's own: a digest of all of it, and how many values there are."""
import hashlib, json, pathlib

data = pathlib.Path("inputs/0/readings.bin").read_bytes()
values = sum(bytes([value]) in data for value in range(256))
found = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "values": values}
pathlib.Path("outputs/summary.json").write_text(json.dumps(found))
'''
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it: the script's own words, how long the machine lived (seconds), the verdict on receipt and outputs."""

    summary: dict[str, Any]
    seconds: float
    checked: dict[str, Any]


def run_errand(site: Site, base: Base) -> Done:
    """Seal the data, sign the job, start its machine, and check what left it. Raises what went wrong."""
    folder = site.owner / "errand"
    (folder / "data").mkdir(parents=True)
    data = secrets.token_bytes(MEBIBYTES << 20)
    (folder / "data" / "readings.bin").write_bytes(data)
    processes.must("keys", "create", KEY, "--policy-id", NAME, *site.at_broker())
    artifact = site.seal(folder / "data", key=KEY, kind="dataset", name=NAME)
    recipient, code, job = folder / "me.key", folder / "summary.py", folder / "job.json"
    processes.must("keys", "new", recipient, "--kind", "recipient")
    code.write_text(SCRIPT)
    (folder / "job.toml").write_text(
        f'name = "summary"\ninputs = ["{artifact}"]\nrecipients = ["me.key.pub"]\nseconds = 300\noutput_bytes = 1000000\n'
    )
    processes.must("job", "sign", folder / "job.toml", "--code", code, "--identity", site.identity, "-o", job)

    registry = site.registry_process()
    words = _words(site, registry)
    place = f"{GATEWAY}:{registry}"
    told = site.configuration(words, reaches=(int(registry),), environment={"STRONGROOM_INSECURE_REGISTRIES": place})
    told |= {"job.json": job.read_bytes(), "summary.py": code.read_bytes()}
    image = site.image(base, told)
    digest = digest_bytes(image.read_bytes())
    kept = site.machine(site.spec(image, name="errand"), site.disk(digest))
    configuration = site.configured(digest, words, {"/etc/strongroom/job.json": str(job)})
    policy = site.publish(site.policy(artifact, kept, configuration, name=NAME, workload="job"))

    began = time.monotonic()
    kept.launcher.up(State.BOOTED)
    left = _left(kept.launcher.place.state / "console.log", lambda: bool(kept.launcher.status().alive))
    seconds = time.monotonic() - began
    site.down(kept)
    receipt = site.user / "errand.json"
    receipt.write_text(json.dumps(left["receipt"]))
    receipt.with_name("errand.json.pub").write_text(str(left["signer"]))
    outputs = f"oci://127.0.0.1:{registry}/outputs:done"
    checked = processes.must(
        "job", "verify", receipt, "--job", job, "--signer", site.signer, "--outputs", outputs, "--policy", policy,
        "--anchor", site.vendor.root, "--enroller", site.enroller, "--broker-fingerprint", site.fingerprint, "--accept-simulated",
    )  # fmt: skip
    opened = site.user / "outputs"
    processes.must("open", outputs, opened, "--key", recipient, "--signer", f"{receipt}.pub")
    summary = json.loads((opened / "summary.json").read_text())
    if summary["sha256"] != hashlib.sha256(data).hexdigest():
        raise Refused("the script saw other data than was sealed")
    return Done(summary, seconds, checked)


def _words(site: Site, registry: str) -> list[str]:
    return [
        "strongroom", "job", "run", "/etc/strongroom/job.json", "--code", "/etc/strongroom/summary.py",
        "--input", f"dir:{SHARE}/registry:{NAME}", "--output", f"oci://{GATEWAY}:{registry}/outputs:done", "--receipt", "-",
        "--broker", f"http://{GATEWAY}:{site.broker_port}", "--broker-fingerprint", site.fingerprint,
        "--signer", "/etc/strongroom/owner.pub", "--image", "{image}", "--enrol",
        "--collateral", "/etc/strongroom/above-the-ek.pem", "--profile", "development",
    ]  # fmt: skip


def _left(console: Path, alive: Callable[[], bool]) -> dict[str, Any]:
    """What the machine printed of its receipt. Raises `LaunchFailed` with its last words."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and alive():
        time.sleep(PAUSE_SECONDS)
    lines = console.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        if line.startswith('{"receipt"'):
            return dict(json.loads(line))
    raise LaunchFailed(f"the job's machine left no receipt: {' '.join(lines[-12:])[-800:]}")
