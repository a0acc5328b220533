"""`strongroom evidence`: show what evidence says, verify whether it holds."""

from __future__ import annotations

import time
from typing import Any

import click

from strongroom.appraisal import appraise
from strongroom.appraisal.genuine import appraise_genuine
from strongroom.cli import output
from strongroom.cli.evidence_files import Found, read_collateral, read_evidence
from strongroom.cli.remote import load_anchors, load_policy
from strongroom.errors import SimulationNotAccepted, UsageError
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.verdict import Level, Verdict
from strongroom.tee.tdx import parse_quote


@click.group("evidence", short_help="what a TEE says of itself: show it, verify it")
def evidence_command() -> None:
    """What a TEE says of itself: show it, verify it, offline."""


@evidence_command.command("show")
@click.argument("path")
@output.json_option
def show(path: str, *, as_json: bool) -> None:
    """Say what the evidence in PATH claims, without judging it."""
    found = read_evidence(path)
    claims = _claims(found)
    if as_json:
        output.print_json({"kind": "tdx", "verified": False, "claims": claims})
    else:
        width = max(len(name) for name in claims)
        click.echo("claims, not verified:")
        for name, value in claims.items():
            click.echo(f"  {name.ljust(width)}  {value}")


@evidence_command.command("verify")
@click.argument("path")
@click.option("--collateral", metavar="FILE", help="What Intel signs about the platform, where PATH does not bring it.")
@click.option("--policy", metavar="FILE", help="What you want of the place; without it, only genuineness is judged.")
@click.option("--owner", metavar="FILE", help="Public key of who signed the policy.")
@click.option("--anchor", metavar="FILE", help="PEM of an installation root, for simulated TEEs.")
@click.option("--accept-simulated", is_flag=True, help="Go on with a simulated TEE, which protects nothing.")
@click.option("--nonce", metavar="HEX", help="The nonce you chose; without it, freshness is not judged.")
@click.option("--at", type=int, metavar="SECONDS", help="Judge as of this moment (Unix seconds); else now.")
@output.json_option
def verify(
    path: str, collateral: str | None, nonce: str | None, at: int | None, *, as_json: bool, **trust: Any
) -> None:
    """Judge the evidence in PATH. Exit 0 accepted, 1 refused, 3 unreadable."""
    found = read_evidence(path)
    now = int(time.time()) if at is None else at
    anchors = load_anchors(trust["anchor"])
    if trust["policy"] is None:
        bundle = found.bundle
        known = read_collateral(collateral) if collateral else bundle.collateral if bundle else None
        if known is None:
            raise UsageError("a bare quote needs collateral", remedy="Name it with --collateral.")
        judged = appraise_genuine(found.quote, known, anchors, report_data=None, now=now)
        _finish(judged.verdict, accepted=judged.genuine, note="genuine, not yet trusted", as_json=as_json, **trust)
        return
    if found.bundle is None:
        raise UsageError("a policy judges a worker's evidence, not a bare quote", remedy="Leave --policy out.")
    bundle = _with_collateral(found.bundle, read_collateral(collateral) if collateral else None)
    verdict = appraise(
        bundle,
        policy=load_policy(trust["policy"], trust["owner"]),
        anchors=anchors,
        nonce=_nonce(nonce) if nonce else bundle.evidence.nonce,
        purpose=bundle.evidence.purpose,
        now=now,
    )
    note = "accepted" if nonce else "accepted, freshness not judged"
    _finish(verdict, accepted=verdict.accepted, note=note, as_json=as_json, **trust)


def _finish(verdict: Verdict, *, accepted: bool, note: str, as_json: bool, accept_simulated: bool, **_: Any) -> None:
    if as_json:
        output.print_json(
            {
                "accepted": accepted and (verdict.level is not Level.SIMULATED or accept_simulated),
                "level": verdict.level.value,
                "checks": output.checks_json(verdict.checks),
                "claims": dict(verdict.claims),
            }
        )
    else:
        output.checks(verdict.checks)
        click.echo(f"level {verdict.level.value}: {note if accepted else 'refused'}")
    if not accepted:
        raise click.exceptions.Exit(1)
    if verdict.level is Level.SIMULATED and not accept_simulated:
        if as_json:
            raise click.exceptions.Exit(1)
        raise SimulationNotAccepted("this evidence comes from a simulated TEE, which protects nothing")


def _claims(found: Found) -> dict[str, str]:
    quote = parse_quote(found.quote)
    body = quote.body
    claims = {name: value.hex() for name in body.__slots__ if isinstance(value := getattr(body, name), bytes)}
    if found.bundle is not None:
        statement = found.bundle.evidence.statement
        claims |= {
            "purpose": found.bundle.evidence.purpose,
            "workload": statement.workload,
            "image": statement.image,
            "launch_spec": statement.launch_spec or "none",
            "configuration": statement.configuration,
            "artifacts": ", ".join(statement.artifacts) or "none",
            "keyset": found.bundle.evidence.keyset.digest,
        }
    return claims


def _with_collateral(bundle: EvidenceBundle, collateral: Collateral | None) -> EvidenceBundle:
    return bundle if collateral is None else EvidenceBundle(bundle.evidence, collateral)


def _nonce(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError("the nonce is not hexadecimal") from None
