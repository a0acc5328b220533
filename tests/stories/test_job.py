"""A data owner, a stranger's code, an operator: a job runs on a sealed table, and only its recipient reads what it made.

Real processes: broker, chip, worker; a real OCI layout; the command line throughout.
"""

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest

from strongroom.appraisal.policies import from_toml
from strongroom.demo import processes
from strongroom.demo.canaries import Canary, hunt
from strongroom.demo.processes import Outcome, command, last_document
from strongroom.demo.stack import POLICY_ID, Stack, stack
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records import codec
from strongroom.records.policy import Requirement
from strongroom.records.receipt import Receipt

SUM = """
import csv, json, pathlib, socket, sys

def attempt(work):
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return "allowed"

with open("inputs/0/patients/table.csv", newline="") as table:
    rows = list(csv.DictReader(table))
report = {
    "total": sum(int(row["amount"]) for row in rows),
    "canary": rows[0]["name"][::-1],
    "arguments": sys.argv[1:],
    "network": attempt(lambda: socket.create_connection(("127.0.0.1", 9), timeout=1)),
    "process": attempt(lambda: __import__("os").fork()),
    "machine": attempt(lambda: open("/etc/passwd")),
}
pathlib.Path("outputs/reports").mkdir()
pathlib.Path("outputs/reports/total.json").write_text(json.dumps(report))
print("summed", rows[0]["name"])
"""
FAIL = """
table = open("inputs/0/patients/table.csv").read()
print("read", len(table), "characters")
raise ValueError(table)
"""
SLOW = """
print(open("inputs/0/patients/table.csv").read())
while True:
    pass
"""
MUCH = 'open("outputs/copy.bin", "wb").write(bytes(1 << 20))'


@dataclass
class Scene:
    """One machine, one sealed table with a canary in it, and its owner's keys."""

    stack: Stack
    canary: str
    table: str

    @property
    def owner(self) -> Path:
        return self.stack.owner

    def job(self, name: str, code: str, **changes: object) -> tuple[Path, Path]:
        """Write and sign a job; its code and its envelope."""
        script, spec, signed = (self.owner / f"{name}.{end}" for end in ("py", "toml", "json"))
        script.write_text(code)
        members = {
            "name": name,
            "inputs": [self.table],
            "arguments": ["--fast"],
            "recipients": ["recipient.key.pub"],
            "seconds": 60,
            "output_bytes": 1 << 16,
            **changes,
        }
        spec.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in members.items()))
        processes.must("job", "sign", spec, "--code", script, "--identity", self.stack.identity, "-o", signed)
        return script, signed

    def told(self, place: Path = Path("/")) -> list[str]:
        made = self.stack
        return [
            "--broker", made.broker.url, "--broker-fingerprint", made.broker.fingerprint, "--signer", str(made.signer),
            "--image", made.image, "--collateral", str(made.installation / "collateral.json"),
            "--tee-root", str(place), "--profile", "development",
        ]  # fmt: skip

    def allow(self, *jobs: Path) -> Path:
        """The owner's policy for exactly these jobs on this table."""
        shown = [processes.must("job", "run", job, *self.told(), "--show-configuration") for job in jobs]
        chosen = [str(document["configuration"]) for document in shown]
        policy = self.stack.policy(self.table, chosen[0])
        place = self.owner / "policy.toml"
        version = from_toml(place.read_text()).version + 1 if place.exists() else policy.version
        (self.owner / "policy.json").unlink(missing_ok=True)
        jobs, pinned = Requirement(one_of=("job",)), Requirement(one_of=tuple(chosen))
        return self.stack.publish(replace(policy, version=version, workload=jobs, configuration=pinned))

    def words(self, job: Path, script: Path, name: str) -> list[str | Path]:
        """The command that runs a job on a chip of its own: what was measured of one worker stays in the registers."""
        _, place = self.stack.start_chip(image=self.stack.image)
        return [
            "job", "run", job, "--code", script, "--input", f"{self.stack.registry}:table",
            "--output", f"{self.stack.registry}:{name}", "--receipt", self.stack.host / f"{name}.json", *self.told(place),
        ]  # fmt: skip

    def run(self, words: list[str | Path], log: str) -> Outcome:
        """Run a job; all that its process says is kept where the host sees it."""
        done = subprocess.run(command(*words), capture_output=True, check=False, timeout=120)
        (self.stack.host / "logs" / f"{log}.log").write_bytes(done.stdout + done.stderr)
        return Outcome(done.returncode, last_document(done.stdout))

    def open(self, name: str) -> dict[str, bytes]:
        """What the recipient reads."""
        target = self.stack.user / name
        signer = self.stack.host / f"{name}.json.pub"
        reference = f"{self.stack.registry}:{name}"
        processes.must("open", reference, target, "--key", self.owner / "recipient.key", "--signer", signer)
        return {file.relative_to(target).as_posix(): file.read_bytes() for file in target.rglob("*") if file.is_file()}

    def receipt(self, name: str) -> dict[str, object]:
        """The receipt that the worker signed, unverified."""
        document = codec.decode(ReceiptDocument, (self.stack.host / f"{name}.json").read_bytes())
        found = codec.decode(Receipt, document.receipt.envelope.payload)
        return {"outcome": found.outcome, "usage": dict(found.usage), "nonce": document.bundle.evidence.nonce}

    def logged_receipts(self) -> int:
        """How many roots of receipts are in the broker's log."""
        size = int(httpx2.get(f"{self.stack.broker.url}/checkpoint").text.splitlines()[1])
        leaves = httpx2.get(f"{self.stack.broker.url}/tile/entries/000.p/{size}")
        assert leaves.status_code == 200
        return leaves.content.count(b'"event":"receipts"')

    def seen_by_the_host(self) -> list[str]:
        """Where the canary is seen, written forwards (as in the input) or backwards (as in the output)."""
        planted = [Canary("input", self.canary.encode()), Canary("output", self.canary[::-1].encode())]
        assert hunt(planted[:1], [self.owner])[0], "the hunt finds what lies in the clear"
        sightings, searched = hunt(planted, [self.stack.host])
        assert searched > 0
        return [sighting.file for sighting in sightings]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with stack(tmp_path_factory.mktemp("job")) as made:
        made.make_installation()
        processes.must("keys", "new", made.identity)
        processes.must("keys", "new", made.owner / "recipient.key", "--kind", "recipient")
        made.start_broker()
        canary = f"patient-{secrets.token_hex(12)}"
        folder = made.owner / "data" / "patients"
        folder.mkdir(parents=True)
        (folder / "table.csv").write_text(f"name,amount\n{canary},30\nanother,12\n")
        processes.must("keys", "create", "data", "--policy-id", POLICY_ID, *made.at_broker())
        sealed = processes.must(
            "seal", folder.parent, f"{made.registry}:table", "--key", "data", *made.at_broker(), "--kind", "dataset"
        )
        yield Scene(made, canary, str(sealed["digest"]))


def test_a_job_sums_a_sealed_table_and_only_its_recipient_reads_the_sum(scene: Scene):
    script, job = scene.job("sum", SUM)
    policy = scene.allow(job)
    nonce = secrets.token_bytes(32)
    outcome = scene.run([*scene.words(job, script, "sum"), "--nonce", nonce.hex()], "sum")
    assert outcome.code == 0, outcome.document
    assert outcome.document["outputs"] == 3
    assert outcome.document["level"] == "simulated"

    assert scene.seen_by_the_host() == []
    made = scene.open("sum")
    assert json.loads(made["reports/total.json"]) == {
        "total": 42,
        "canary": scene.canary[::-1],
        "arguments": ["--fast"],
        "network": "PermissionError",
        "process": "PermissionError",
        "machine": "FileNotFoundError",
    }
    assert made["stdout.txt"].decode() == f"summed {scene.canary}\n"
    assert made["stderr.txt"] == b""

    receipt = scene.stack.host / "sum.json"
    trust = [
        "--policy", policy, "--anchor", scene.stack.anchor, "--accept-simulated",
        "--broker-fingerprint", scene.stack.broker.fingerprint,
    ]  # fmt: skip
    assert scene.receipt("sum")["nonce"] == nonce
    checked = processes.must("receipt", "verify", receipt, *trust)
    assert checked["receipt"]["workload"] == "job"
    assert checked["receipt"]["artifacts"] == [scene.table]
    assert checked["receipt"]["usage"]["output_bytes"] == sum(len(content) for content in made.values())

    mine = ["job", "verify", receipt, "--job", job, "--signer", scene.stack.signer, *trust, "--outputs"]
    verified = processes.must(*mine, f"{scene.stack.registry}:sum")
    assert verified["outputs"] == outcome.document["digest"]
    _, longer = scene.job("longer", SUM, seconds=61)
    another = processes.run(*mine, f"{scene.stack.registry}:sum", "--job", longer)
    assert (another.code, another.error) == (1, "receipt.invalid")
    other = processes.run(*mine, f"{scene.stack.registry}:table")
    assert (other.code, other.error) == (1, "receipt.invalid")
    forged = processes.run(*mine, f"{scene.stack.registry}:sum", "--outputs-signer", scene.stack.signer)
    assert (forged.code, forged.error) == (1, "receipt.invalid")


def test_nobody_else_opens_the_outputs(scene: Scene):
    script, job = scene.job("whose", SUM)
    scene.allow(job)
    assert scene.run(scene.words(job, script, "whose"), "whose").code == 0
    processes.must("keys", "new", scene.owner / "stranger.key", "--kind", "recipient")
    refused = processes.run(
        "open", f"{scene.stack.registry}:whose", scene.stack.user / "stranger",
        "--key", scene.owner / "stranger.key", "--signer", scene.stack.host / "whose.json.pub",
    )  # fmt: skip
    assert (refused.code, refused.error) == (1, "sealed.broken")
    assert not (scene.stack.user / "stranger").exists()


def test_a_failing_job_says_why_to_its_recipient_alone(scene: Scene):
    script, job = scene.job("fail", FAIL)
    scene.allow(job)
    logged = scene.logged_receipts()
    outcome = scene.run(scene.words(job, script, "fail"), "fail")
    assert (outcome.code, outcome.error) == (1, "workload.failed")
    assert scene.receipt("fail")["outcome"] == "failed"
    assert scene.seen_by_the_host() == []
    assert scene.logged_receipts() == logged + 1
    made = scene.open("fail")
    assert set(made) == {"stdout.txt", "stderr.txt"}
    assert f"ValueError: name,amount\n{scene.canary}" in made["stderr.txt"].decode()


def test_a_job_that_takes_too_long_is_killed_and_what_it_printed_is_sealed(scene: Scene):
    script, job = scene.job("slow", SLOW, seconds=3)
    scene.allow(job)
    outcome = scene.run(scene.words(job, script, "slow"), "slow")
    assert (outcome.code, outcome.error) == (1, "workload.failed")
    assert "3 seconds" in outcome.document["error"]["message"]
    assert scene.receipt("slow")["outcome"] == "failed"
    assert scene.seen_by_the_host() == []
    assert scene.canary in scene.open("slow")["stdout.txt"].decode()


def test_a_job_that_makes_too_much_keeps_none_of_it(scene: Scene):
    script, job = scene.job("much", MUCH)
    scene.allow(job)
    outcome = scene.run(scene.words(job, script, "much"), "much")
    assert (outcome.code, outcome.error) == (1, "workload.failed")
    assert set(scene.open("much")) == {"stdout.txt", "stderr.txt"}
    assert scene.receipt("much")["outcome"] == "failed"


def test_a_job_that_is_told_to_stop_leaves_a_receipt_and_no_outputs(scene: Scene):
    script, job = scene.job("cut", SLOW)
    scene.allow(job)
    worker = scene.stack._start("cut", command(*scene.words(job, script, "cut")))
    while not (line := worker._lines.get(timeout=60) or b"").startswith(b"ready"):
        assert line, worker.outcome().document
    os.kill(worker.process.pid, signal.SIGTERM)
    outcome = worker.outcome()
    assert (outcome.code, outcome.error) == (1, "workload.failed")
    assert scene.receipt("cut")["outcome"] == "cut"
    missing = processes.run("inspect", f"{scene.stack.registry}:cut")
    assert (missing.code, missing.error) == (3, "file.unreadable")


def test_a_job_outlives_its_first_lease_by_renewing_it(scene: Scene):
    script, job = scene.job("long", "import time; time.sleep(8)")
    policy = scene.allow(job)
    assert from_toml(policy.read_text()).lease_seconds < 8
    outcome = scene.run(scene.words(job, script, "long"), "long")
    assert outcome.code == 0, outcome.document


def test_a_job_that_the_data_owner_did_not_allow_gets_no_key(scene: Scene):
    _, allowed = scene.job("allowed", SUM)
    scene.allow(allowed)
    script, job = scene.job("curious", "print(open('inputs/0/patients/table.csv').read())")
    outcome = scene.run(scene.words(job, script, "curious"), "curious")
    assert (outcome.code, outcome.error) == (1, "appraisal.refused")
    assert not (scene.stack.host / "curious.json").exists()


def test_other_code_another_input_and_an_unsigned_job_are_refused_before_anything_is_asked(scene: Scene):
    script, job = scene.job("strict", SUM)
    scene.allow(job)
    other = scene.owner / "other.py"
    other.write_text(SUM + "\n")
    outcome = processes.run(*scene.words(job, other, "strict"))
    assert (outcome.code, outcome.error) == (1, "sealed.broken")
    assert outcome.document["error"]["detail"] == "code"

    words = scene.words(job, script, "strict")
    twice = processes.run(*words, "--input", f"{scene.stack.registry}:table")
    assert (twice.code, twice.error) == (1, "sealed.broken")
    assert twice.document["error"]["detail"] == "inputs"

    processes.must("keys", "new", scene.owner / "stranger.pem")
    unsigned = scene.owner / "unsigned.json"
    spec = scene.owner / "strict.toml"
    processes.must("job", "sign", spec, "--code", script, "--identity", scene.owner / "stranger.pem", "-o", unsigned)
    refused = processes.run(*scene.words(unsigned, script, "strict"))
    assert (refused.code, refused.error) == (1, "signature.invalid")


def test_what_a_job_cannot_be_run_with_is_said_before_anything_is_asked(scene: Scene):
    script, job = scene.job("careful", SUM)
    words = scene.words(job, script, "careful")
    taken = scene.stack.host / "careful.json"
    for more in (["--nonce", "00"], ["--nonce", "no"], ["--output", f"{scene.stack.registry}@{scene.table}"]):
        refused = processes.run(*words, *more)
        assert (refused.code, refused.error) == (2, "usage")
    without = processes.run("job", "run", job, *scene.told())
    assert (without.code, without.error) == (2, "usage")
    taken.write_text("somebody's")
    refused = processes.run(*words)
    assert (refused.code, refused.error) == (2, "usage")
    assert taken.read_text() == "somebody's"
