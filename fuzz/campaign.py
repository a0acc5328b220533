"""The mutation campaign over all kinds of evidence, in several processes; the unit tests run a small one.

    python fuzz/campaign.py --mutations 1000000 --seed 1 --workers 2 --save bench
    python fuzz/campaign.py --kind snp --mutations 5000
    python fuzz/campaign.py --again finding-snp-1000001-17.json

Ends with a table, one line a kind, and exit code 1 if there is a finding; each is left as a file that `--again` judges again.
What a finding is, and which freedoms are explained: `strongroom_sim.campaign`, `strongroom_sim.mutants.explained`.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from strongroom.appraisal.kinds import kind_of
from strongroom.bench.figures import machine
from strongroom.errors import MalformedEvidence
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import TrustAnchor
from strongroom_sim.campaign import Finding, Tally, campaign
from strongroom_sim.mutants.explained import EXPLAINED
from strongroom_sim.mutants.forges import KINDS, forges
from strongroom_sim.mutants.mutant import Forge
from strongroom_sim.subjects import Hardware

NOW = 1_790_000_000
CHUNK = 1000
SHARES = {
    "tdx": 18,
    "sgx": 12,
    "snp": 10,
    "tpm": 15,
    "nitro": 8,
    "cca": 12,
    "az-snp": 6,
    "az-tdx": 6,
    "gce-snp": 6,
    "gce-tdx": 7,
}
"""Percent of all mutations: fewer of the kinds whose signatures are dear."""
REPORT_SECONDS = 10
COLUMNS = (
    "mutations",
    "aware",
    "by_parser",
    "by_verifier",
    "other_claims",
    "explained",
    "too_long",
    "findings",
    "seconds",
)


@functools.cache
def forge(kind: str) -> Forge:
    """This process's forge of a kind, made with hardware of its own."""
    return forges(hardware(), [kind])[kind]


@functools.cache
def hardware() -> Hardware:
    return Hardware.make(NOW)


def chunk(kind: str, count: int, seed: int) -> tuple[str, Tally]:
    """One piece of work, in whichever process."""
    return kind, campaign(forge(kind), count, seed=seed)


def pieces(wanted: dict[str, int], seed: int) -> Iterator[tuple[str, int, int]]:
    """Kind, count and seed of every piece; kinds take turns, so that a run cut short has something of each."""
    left, number = dict(wanted), seed * 1_000_000
    while any(left.values()):
        for kind in [kind for kind, count in left.items() if count]:
            count = min(CHUNK, left[kind])
            left[kind] -= count
            number += 1
            yield kind, count, number


def shares(total: int, kinds: Sequence[str]) -> dict[str, int]:
    """How many mutations each kind gets; all of them if it is the only one."""
    whole = sum(SHARES[kind] for kind in kinds)
    return {kind: -(-total * SHARES[kind] // whole) for kind in kinds}


def run(wanted: dict[str, int], seed: int, workers: int, folder: Path) -> dict[str, Tally]:
    """The tallies by kind; findings are written into `folder` as they come."""
    tallies = {kind: Tally() for kind in wanted}
    progress = Progress(sum(wanted.values()))
    for kind, tally in results(wanted, seed, workers):
        for found in tally.findings:
            sys.stderr.write(f"{write_finding(folder, found)}: {found.where}: {found.wrong}\n")
        tallies[kind].add(tally)
        progress.tell(tallies)
    return tallies


def results(wanted: dict[str, int], seed: int, workers: int) -> Iterator[tuple[str, Tally]]:
    """The tally of each piece, as it is ready."""
    if workers == 1:
        yield from (chunk(*piece) for piece in pieces(wanted, seed))
        return
    with ProcessPoolExecutor(workers) as pool:
        waiting: list[Future[tuple[str, Tally]]] = [pool.submit(chunk, *piece) for piece in pieces(wanted, seed)]
        yield from (done.result() for done in as_completed(waiting))


class Progress:
    """A line every few seconds."""

    def __init__(self, total: int) -> None:
        self._total, self._told = total, time.monotonic()

    def tell(self, tallies: dict[str, Tally]) -> None:
        if time.monotonic() - self._told < REPORT_SECONDS:
            return
        self._told = time.monotonic()
        done, bad = (sum(getattr(found, name) for found in tallies.values()) for name in ("mutations", "count"))
        sys.stderr.write(f"{done:,} of {self._total:,} mutations, {bad} findings\n")
        sys.stderr.flush()


def row(tally: Tally) -> dict[str, Any]:
    """A tally as numbers."""
    numbers = {name: getattr(tally, name) for name in COLUMNS if name not in {"explained", "findings"}}
    numbers |= {"explained": sum(tally.explained.values()), "findings": tally.count, "seconds": round(tally.seconds, 1)}
    return {name: numbers[name] for name in COLUMNS}


def table(tallies: dict[str, Tally]) -> str:
    """One line a kind, and the sum."""
    rows = {kind: row(tally) for kind, tally in tallies.items()}
    rows["all"] = {name: round(sum(found[name] for found in rows.values()), 1) for name in COLUMNS}
    heads = {name: name.replace("by_", "").replace("_", " ") for name in COLUMNS}
    lines = ["kind    " + " ".join(f"{head:>12}" for head in heads.values())]
    lines += [f"{kind:<8}" + " ".join(f"{found[name]:>12,}" for name in COLUMNS) for kind, found in rows.items()]
    return "\n".join(lines)


def save(folder: Path, tallies: dict[str, Tally], arguments: argparse.Namespace) -> Path:
    """The numbers as a file of `bench/`."""
    today = datetime.now(UTC).date().isoformat()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 (whichever git builds this)
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    explained = sum((tally.explained for tally in tallies.values()), Counter[str]())
    content = {
        "name": "mutations",
        "machine": machine(),
        "date": today,
        "commit": commit.stdout.strip(),
        "seed": arguments.seed,
        "workers": arguments.workers,
        "mutations": sum(tally.mutations for tally in tallies.values()),
        "findings": sum(tally.count for tally in tallies.values()),
        "kinds": {kind: row(tally) for kind, tally in tallies.items()},
        "explained": {name: {"count": explained[name], "reason": entry.reason} for name, entry in EXPLAINED.items()},
    }
    path = folder / f"mutations-{today}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return path


def write_finding(folder: Path, found: Finding) -> Path:
    """A finding as a file."""
    sample = found.sample
    content = {
        "kind": found.kind, "seed": found.seed, "aware": found.aware, "where": found.where, "wrong": found.wrong,
        "now": sample.now, "quote": sample.quote.hex(), "log": sample.log.hex(),
        "collateral": codec.to_json(sample.collateral),
        "anchors": [[anchor.kind, anchor.fingerprint] for anchor in found.anchors],
    }  # fmt: skip
    path = folder / f"finding-{found.kind}-{found.seed}-{found.number}.json"
    path.write_text(json.dumps(content, indent=1), "utf-8")
    return path


def again(path: Path) -> str:
    """What comes of a finding today, in words."""
    found = json.loads(path.read_bytes())
    anchors = [TrustAnchor(kind, pin, RootClass.INSTALLATION, "of a finding") for kind, pin in found["anchors"]]
    try:
        genuine = kind_of(found["kind"]).judge(
            bytes.fromhex(found["quote"]),
            bytes.fromhex(found["log"]),
            collateral=codec.from_json(Collateral, found["collateral"]),
            anchors=anchors,
            now=found["now"],
        )
    except MalformedEvidence as error:
        return f"{found['where']}: {found['wrong']}\nmalformed: {error.message}"
    checks = "\n".join(f"{check.status:<8} {check.id:<28} {check.detail}" for check in genuine.checks)
    return f"{found['where']}: {found['wrong']}\n{checks}\n{json.dumps(dict(genuine.claims), indent=1)}"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--mutations", type=int, default=10_000, help="how many, over all kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this kind; may be repeated")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a folder for the numbers")
    parser.add_argument("--findings", type=Path, default=Path(), help="a folder for the findings")
    parser.add_argument("--again", type=Path, help="judge one finding again")
    arguments = parser.parse_args(words)
    if arguments.again:
        sys.stdout.write(again(arguments.again) + "\n")
        return 0
    tallies = run(
        shares(arguments.mutations, arguments.kind or KINDS), arguments.seed, arguments.workers, arguments.findings
    )
    sys.stdout.write(table(tallies) + "\n")
    if arguments.save:
        sys.stdout.write(f"{save(arguments.save, tallies, arguments)}\n")
    return 1 if any(tally.count for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
