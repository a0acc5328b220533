"""`strongroom evidence`: collect it, show what it says, verify whether it holds."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import click

from strongroom.appraisal import appraise
from strongroom.appraisal.formats import Presented, collateral_of
from strongroom.appraisal.gather import gather_tpm
from strongroom.appraisal.genuine import CHECKED, appraise_genuine
from strongroom.appraisal.kinds import kind_of
from strongroom.cli import output
from strongroom.cli.evidence_files import read_collateral, read_evidence, read_known
from strongroom.cli.output import Moment
from strongroom.cli.remote import load_anchors, load_policy, signed_options
from strongroom.crypto import x509
from strongroom.crypto.signatures import private_from_pem
from strongroom.errors import DeviceUnavailable, SimulationNotAccepted, UsageError
from strongroom.records import binding
from strongroom.records.evidence import EvidenceBundle, TpmCollateral
from strongroom.records.policy import Requirement
from strongroom.records.verdict import Level, Verdict

GENUINE = "genuine, not yet trusted"


@click.group("evidence", short_help="what a TEE says of itself: collect it, show it, verify it")
def evidence_command() -> None:
    """What a TEE says of itself: collect it, show it, verify it, offline."""


@evidence_command.command("collect")
@click.option(
    "--nonce", required=True, metavar="HEX", help="What the evidence must bind: 64 bytes, or up to 64 for a TPM."
)
@click.option(
    "--kind",
    metavar="NAME",
    help="tdx, snp, cca, nitro, tpm, gce-snp or gce-tdx; else the first of one part that is there.",
)
@click.option("--tee-root", default="/", type=click.Path(path_type=Path, file_okay=False), help="For simulated TEEs.")
@click.option("-o", "--output", "target", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Write the firmware's event log here.")
@output.json_option
def collect(nonce: str, kind: str | None, tee_root: Path, target: Path, log: Path | None, *, as_json: bool) -> None:
    """Ask the TEE of this machine for evidence, in its vendor's form."""
    from strongroom.worker.devices import find_device

    found, device = find_device(tee_root, kind)
    quote = device.quote(_nonce(nonce))
    output.write_file(target, quote)
    written = device.log() if log is not None else b""
    if log is not None and written:
        output.write_file(log, written)
    if as_json:
        output.print_json({"kind": found, "file": str(target), "bytes": len(quote), "log_bytes": len(written)})
    else:
        click.echo(f"{target}: {found}, {len(quote)} bytes{f'; {log}: {len(written)} bytes' if written else ''}")


@evidence_command.command("enrol")
@click.option("--identity", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Your private key.")
@click.option(
    "--collateral", multiple=True, metavar="DIR|FILE", help="Certificates above the endorsement key's, lists."
)
@click.option("--anchor", multiple=True, metavar="FILE", help="Installation roots (PEM), for simulated TPMs.")
@click.option("--any-revocation", metavar="REASON", help="Go on without a revocation list that nobody gave.")
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="How long the note holds.")
@click.option("--algorithm", type=click.Choice(["rsa", "ecc"]), default="rsa", show_default=True)
@click.option("--tee-root", default="/", type=click.Path(path_type=Path, file_okay=False))
@click.option("-o", "--output", "target", required=True, type=click.Path(dir_okay=False, path_type=Path))
@output.json_option
def enrol_command(
    identity: Path,
    any_revocation: str | None,
    days: int,
    algorithm: str,
    tee_root: Path,
    target: Path,
    *,
    as_json: bool,
    **given: Any,
) -> None:
    """Enrol this machine's TPM: prove that its attestation key lives beside a certified endorsement key, and sign that."""
    from strongroom.tee.tpm import Collector, enrol, parse_key

    now = int(time.time())
    device = Collector(tee_root)
    certificate, ek, ak = device.keys(algorithm)
    if not certificate:
        raise DeviceUnavailable("this TPM holds no certificate of its endorsement key", remedy="Try --algorithm ecc.")
    pile = read_collateral(given["collateral"], now)
    pile.add(certificate)
    above = gather_tpm(pile, x509.load_certificate(certificate), "")
    endorsed = enrol.check_endorsement(
        parse_key(ek),
        above or TpmCollateral("", ()),
        load_anchors(*given["anchor"]),
        now,
        revocation=Requirement(any=any_revocation) if any_revocation else CHECKED,
    )
    waiting = enrol.challenge(endorsed, parse_key(ak))
    answer = device.activate(waiting.credential, algorithm)
    note = enrol.finish(waiting, answer, private_from_pem(output.read_file(identity)), now=now, life=days * 86_400)
    output.write_file(target, note.to_bytes())
    if as_json:
        output.print_json({"file": str(target), "ak": waiting.ak_name, "endorsement": endorsed.fingerprint})
    else:
        click.echo(f"{target}: attestation key {waiting.ak_name[:20]}… of the TPM {endorsed.fingerprint[:19]}…")


@evidence_command.command("show")
@click.argument("path")
@output.json_option
def show(path: str, *, as_json: bool) -> None:
    """Say what the evidence in PATH claims, without judging it."""
    found = read_evidence(path)
    claims = _claims(found)
    if as_json:
        output.print_json({"kind": found.kind, "verified": False, "claims": claims})
    else:
        width = max(len(name) for name in claims)
        click.echo(f"{found.kind}; claims, not verified:")
        for name, value in claims.items():
            click.echo(f"  {name.ljust(width)}  {value}")


@evidence_command.command("verify")
@click.argument("path")
@click.option(
    "--collateral",
    multiple=True,
    metavar="DIR|FILE",
    help="What the vendor signs about the hardware, where PATH does not bring it: any number of files or folders.",
)
@click.option("--policy", metavar="FILE", help="What you want of the place; without it, only genuineness is judged.")
@click.option("--owner", metavar="FILE", help="Public key of who signed the policy.")
@signed_options
@click.option("--anchor", multiple=True, metavar="FILE", help="Installation roots (PEM), for simulated TEEs.")
@click.option("--accept-simulated", is_flag=True, help="Go on with a simulated TEE, which protects nothing.")
@click.option("--any-revocation", metavar="REASON", help="Go on without a revocation list that nobody gave.")
@click.option("--log", metavar="FILE", help="The firmware's event log, where PATH does not bring it.")
@click.option("--nonce", metavar="HEX", help="What the evidence must bind; without it, freshness is not judged.")
@click.option("--at", type=Moment(), help="Judge as of this moment (Unix seconds, or ISO 8601); else now.")
@output.json_option
def verify(
    path: str, nonce: str | None, at: int | None, any_revocation: str | None, *, as_json: bool, **given: Any
) -> None:
    """Judge the evidence in PATH. Exit 0 accepted, 1 refused, 3 unreadable.

    Without --policy the built-in policy `genuine` applies: everything that needs no owner's wishes. Measurements and
    custody are then not judged, and the output says so.
    """
    found = read_evidence(path)
    if given["log"] is not None:
        found = dataclasses.replace(found, log=output.read_file(given["log"]))
    now = int(time.time()) if at is None else at
    collateral = collateral_of(found, read_collateral(given["collateral"], now))
    anchors = load_anchors(*given["anchor"], enrollers=given["enrollers"])
    told = {"as_json": as_json, "accept_simulated": given["accept_simulated"]}
    if given["policy"] is None:
        judged = appraise_genuine(
            found.kind,
            found.quote,
            found.log,
            collateral=collateral,
            anchors=anchors,
            report_data=_bound(found, _nonce(nonce)) if nonce else None,
            now=now,
            revocation=Requirement(any=any_revocation) if any_revocation else CHECKED,
        )
        _finish(judged.verdict, accepted=judged.genuine, note=GENUINE, **told)
        return
    if found.bundle is None:
        raise UsageError("a policy judges a worker's evidence, not a bare quote", remedy="Leave --policy out.")
    if any_revocation:
        raise UsageError("a policy says itself what may be missing", remedy="Leave --any-revocation out.")
    evidence = found.bundle.evidence
    verdict = appraise(
        EvidenceBundle(dataclasses.replace(evidence, log=found.log), collateral),
        policy=load_policy(given["policy"], given["owner"]),
        anchors=anchors,
        nonce=_nonce(nonce) if nonce else evidence.nonce,
        purpose=evidence.purpose,
        now=now,
        known=read_known(given["references"], given["custody"], given["provenance"], given["signers"]),
    )
    note = "accepted" if nonce else "accepted, freshness not judged"
    _finish(verdict, accepted=verdict.accepted, note=note, **told)


def _finish(verdict: Verdict, *, accepted: bool, note: str, as_json: bool, accept_simulated: bool) -> None:
    if as_json:
        output.print_json(
            {
                "accepted": accepted and (verdict.level is not Level.SIMULATED or accept_simulated),
                "level": verdict.level.value,
                "note": note if accepted else "refused",
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


def _claims(found: Presented) -> dict[str, str | int]:
    claims = kind_of(found.kind).stated(found.quote)
    if found.bundle is not None:
        statement = found.bundle.evidence.statement
        claims |= {
            "purpose": found.bundle.evidence.purpose,
            "workload": statement.workload,
            "image": statement.image,
            "launch_spec": statement.launch_spec or "none",
            "configuration": statement.configuration,
            "artifacts": ", ".join(found.bundle.evidence.artifacts) or "none",
            "keyset": found.bundle.evidence.keyset.digest,
        }
    return claims


def _bound(found: Presented, nonce: bytes) -> bytes:
    """What the evidence must bind: the nonce itself, or in a worker's evidence all that is bound together with it."""
    if found.bundle is None:
        return nonce
    evidence = found.bundle.evidence
    return binding.report_data(
        evidence.kind,
        nonce=nonce,
        keyset=evidence.keyset.digest,
        statement=evidence.statement.digest,
        devices=None,
        purpose=evidence.purpose,
    )


def _nonce(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError("the nonce is not hexadecimal") from None
