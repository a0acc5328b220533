"""`strongroom collateral`: fetch what vendors sign about hardware, keep it verified, look at it, let go of it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.cli import output
from strongroom.cli.evidence_files import read_evidence
from strongroom.cli.remote import load_anchors
from strongroom.collateral.cache import Cache
from strongroom.collateral.checks import Checks
from strongroom.collateral.evidence import Choice, needs_of
from strongroom.collateral.fetchers import AmdFetcher, CrlFetcher, IntelFetcher
from strongroom.collateral.fetchers.amd import KDS
from strongroom.collateral.fetchers.intel import PCS
from strongroom.collateral.http import place_of
from strongroom.collateral.items import Item
from strongroom.collateral.source import CollateralSource, Fetcher, Gathered
from strongroom.errors import StrongroomError, UsageError
from strongroom.records import codec


def _default_cache() -> Path:
    """`strongroom/collateral` below the user's cache directory (XDG Base Directory Specification)."""
    stated = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(stated) if stated.startswith("/") else Path.home() / ".cache"
    return base / "strongroom" / "collateral"


cache_option = click.option(
    "--cache",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=_default_cache,
    help="Where collateral is kept; by default below your cache directory.",
)
at_option = click.option("--at", type=int, metavar="SECONDS", help="Act as of this moment (Unix seconds); else now.")


@click.group("collateral", short_help="what vendors sign about hardware: fetch it, keep it")
def collateral_command() -> None:
    """What vendors sign about hardware: fetched, verified, and kept until it ends."""


@collateral_command.command("fetch")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@cache_option
@click.option("--intel", metavar="URL", default=PCS, help="Intel's PCS, or a PCCS or mirror of yours.")
@click.option("--intel-root-crl", metavar="URL", help="Where the CRL of Intel's root is, if elsewhere.")
@click.option("--amd", metavar="URL", default=KDS, help="AMD's KDS, or a mirror of yours.")
@click.option("--crl", "crls", metavar="NAME=URL", multiple=True, help="A CRL for Nitro; may be given again.")
@click.option("--update", type=click.Choice(["standard", "early"]), default="standard", help="Intel's track.")
@click.option("--evaluation", type=int, metavar="N", help="One evaluation number of Intel's instead of a track.")
@click.option("--anchor", metavar="FILE", help="PEM of an installation root, for simulated TEEs.")
@click.option("--renew", is_flag=True, help="Ask for all of it anew, whatever is kept.")
@click.option("--offline", is_flag=True, help="Ask nobody; take what is kept.")
@click.option("-o", "--out", metavar="FILE", help="Write the collateral there; for one FILE of evidence.")
@at_option
@output.json_option
def fetch(files: tuple[str, ...], directory: Path, out: str | None, at: int | None, *, as_json: bool, **o: Any) -> None:
    """Fetch what the evidence in each FILE needs, verify it, keep it. Goes through HTTPS_PROXY where that is set."""
    if out is not None and len(files) > 1:
        raise UsageError("one file of collateral is for one file of evidence", remedy="Leave -o out, or name one FILE.")
    now = int(time.time()) if at is None else at
    places = dict(_place(text) for text in o["crls"])
    choice = Choice(o["update"], o["evaluation"], tuple(places))
    late: list[tuple[Item, StrongroomError]] = []
    fetchers: list[Fetcher] = [
        IntelFetcher(o["intel"], root_crl_url=o["intel_root_crl"]),
        AmdFetcher(o["amd"]),
        CrlFetcher(places, hosts={place_of(url).host for url in places.values()}),
    ]
    cache = Cache(directory, Checks(load_anchors(o["anchor"])))
    source = CollateralSource(
        cache, fetchers, offline=o["offline"], report=lambda item, error: late.append((item, error))
    )
    found = []
    for file in files:
        evidence = read_evidence(file)
        leaves = [leaf.public_bytes(Encoding.DER) for leaf in evidence.pieces.certificates]
        needs = needs_of(evidence.kind, evidence.quote, choice=choice, leaves=leaves)
        gathered = source.gather(needs, now=now, renew=o["renew"])
        if out is not None:
            output.write_file(out, codec.encode(gathered.collateral))
        found.append(_described(file, evidence.kind, gathered))
    not_renewed = [{"item": item.name, **error.as_dict()} for item, error in late]
    if as_json:
        output.print_json({"collateral": found, "not_renewed": not_renewed})
        return
    for one in found:
        click.echo(f"{one['file']}: {one['kind']}, {one['digest']}, until {_time(one['until'])}")
        output.table(("part", "until"), [(part["item"], _time(part["until"])) for part in one["parts"]])
    for problem in not_renewed:
        click.echo(f"not renewed: {problem['item']}: {problem['message']}", err=True)


@collateral_command.command("show")
@cache_option
@at_option
@output.json_option
def show(directory: Path, at: int | None, *, as_json: bool) -> None:
    """What is kept, until when, and the floors below which nothing is taken."""
    now = int(time.time()) if at is None else at
    cache = Cache(directory, Checks(()))
    entries, floors = cache.entries(), cache.floors()
    if as_json:
        output.print_json(
            {
                "entries": [
                    {"item": e.item, "digest": e.digest, "fetched": e.fetched, "until": e.ends, "ended": e.ends < now}
                    for e in entries
                ],
                "floors": [{"series": f.series, "number": f.number, "issued": f.issued} for f in floors],
            }
        )
        return
    rows = [(e.item, _time(e.fetched), "ended" if e.ends < now else f"until {_time(e.ends)}") for e in entries]
    output.table(("part", "fetched", "holds"), rows)
    click.echo("")
    output.table(("floor", "number", "issued"), [(f.series, f.number, _time(f.issued)) for f in floors])


@collateral_command.command("prune")
@cache_option
@click.option("--all", "everything", is_flag=True, help="Also what still holds. Floors stay in any case.")
@at_option
@output.json_option
def prune(directory: Path, at: int | None, *, everything: bool, as_json: bool) -> None:
    """Remove what has ended. Floors stay: what was once older stays refused."""
    now = int(time.time()) if at is None else at
    removed = Cache(directory, Checks(())).prune(now, everything=everything)
    if as_json:
        output.print_json({"removed": removed})
    else:
        click.echo(f"{removed} removed")


def _described(file: str, kind: str, gathered: Gathered) -> dict[str, Any]:
    return {
        "file": file,
        "kind": kind,
        "digest": gathered.collateral.digest,
        "until": gathered.until,
        "parts": [
            {"item": k.item, "digest": k.digest, "fetched": k.fetched, "until": k.facts.ends} for k in gathered.parts
        ],
    }


def _place(text: str) -> tuple[str, str]:
    name, equals, url = text.partition("=")
    if not name or not equals:
        raise UsageError(f"{text[:64]!r} is no place", remedy="Write NAME=URL.")
    return name, url


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
