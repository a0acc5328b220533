"""`strongroom policy`: write, check, sign, publish and explain policies."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from strongroom.appraisal import appraise
from strongroom.appraisal.explain import (
    expected_inputs,
    explain,
    explain_events,
    explain_registers,
    measured_inputs,
)
from strongroom.appraisal.kinds import kind_of
from strongroom.appraisal.policies import from_toml, sign_policy, template, to_toml
from strongroom.appraisal.signed import Known
from strongroom.cli import output
from strongroom.cli.evidence_files import read_evidence, read_known
from strongroom.cli.explanation import show_trial
from strongroom.cli.output import Moment
from strongroom.cli.remote import broker_client, broker_options, digest, load_anchors, load_policy, signed_options
from strongroom.crypto.signatures import private_from_pem
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Evidence, EvidenceBundle
from strongroom.records.policy import Reference, Requirement
from strongroom.records.verdict import Verdict


@click.group("policy", short_help="write, check, sign, publish and explain policies")
def policy_command() -> None:
    """What an owner wants of a place: write it, check it, sign it, and see why evidence does not meet it."""


@policy_command.command("new")
@click.argument("identifier")
@click.option(
    "--evidence", type=click.Path(dir_okay=False), help="Evidence of a worker you trust; its registers are pinned."
)
@click.option(
    "--spec",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A launch specification; the registers that are computed from it are pinned, before anything boots.",
)
@click.option("--artifact", "artifacts", multiple=True, required=True, help="Digest of an artifact that may be opened.")
@click.option("--configuration", metavar="DIGEST", help="The worker's configuration (`serve … --show-configuration`).")
@click.option("--workload", default="inference", show_default=True, help="What may be run: inference or job.")
@click.option("--simulated", is_flag=True, help="A policy for a simulated TEE; it accepts nothing else.")
@click.option(
    "-o", "--output", "target", type=click.Path(dir_okay=False, path_type=Path), help="Where to; else the terminal."
)
@output.json_option
def new(
    identifier: str,
    evidence: str | None,
    spec: Path | None,
    artifacts: tuple[str, ...],
    configuration: str | None,
    workload: str,
    target: Path | None,
    *,
    simulated: bool,
    as_json: bool,
) -> None:
    """Print a policy to start from. Every member is there; read each, and pin what you know."""
    if (evidence is None) is (spec is None):
        raise UsageError(
            "a policy needs reference values, of one origin",
            remedy="Name a launch specification with --spec, or the evidence of a worker that you trust with --evidence.",
        )
    reference, launch_spec = _of_spec(spec) if spec is not None else (reference_of(_bundle(str(evidence))), None)
    policy = template(
        identifier,
        references=[reference],
        artifacts=[digest(artifact) for artifact in artifacts],
        simulated=simulated,
        workload=workload,
        kind=reference.kind,
    )
    if configuration is not None:
        policy = replace(policy, configuration=Requirement(one_of=(digest(configuration),)))
    if launch_spec is not None:
        policy = replace(policy, launch_spec=Requirement(one_of=(launch_spec,)))
    text = to_toml(policy)
    if target is not None:
        output.write_file(target, text.encode())
    if as_json:
        output.print_json({"digest": policy.digest, "policy": codec.to_json(policy), "toml": text})
    elif target is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"{target}: read every line; then `strongroom policy sign {target}`", err=True)


def _of_spec(path: Path) -> tuple[Reference, Digest | None]:
    """What a specification's machine will measure, and the specification's digest where the kind measures that, too."""
    from strongroom.cli.measure import expect, load_spec
    from strongroom.launch.measure.reference import reference_of as computed

    spec = load_spec(path)
    return computed(spec, expect(spec, path)), spec.digest if kind_of(spec.tee).launch_spec is not None else None


def _bundle(path: str) -> EvidenceBundle:
    """A worker's evidence in any of our own forms: a bundle, a worker's proof, a receipt document."""
    bundle = read_evidence(path).bundle
    if bundle is None:
        raise UsageError(
            f"{path} is a bare quote, not a worker's evidence", remedy="Use what a worker gives, or a saved receipt."
        )
    return bundle


def reference_of(bundle: EvidenceBundle) -> Reference:
    """The registers of evidence as reference values: trust on first use, by the person who names the file."""
    evidence = bundle.evidence
    kind = kind_of(evidence.kind)
    said = kind.stated(evidence.quote)
    return Reference(
        image=evidence.statement.image,
        kind=kind.name,
        registers={name: (str(said[name]),) for name in kind.registers},
    )


@policy_command.command("check")
@click.argument("path")
@click.option("--owner", metavar="FILE", help="Public key of who signed it.")
@output.json_option
def check(path: str, owner: str | None, *, as_json: bool) -> None:
    """Read a policy and say its id, version and digest."""
    policy = load_policy(path, owner)
    if as_json:
        output.print_json(
            {"id": policy.id, "version": policy.version, "digest": policy.digest, "policy": codec.to_json(policy)}
        )
    else:
        levels = ", ".join(level.value for level in policy.levels)
        click.echo(f"{policy.id} version {policy.version}\ndigest  {policy.digest}\nlevels  {levels}")
        open_ends = [
            name for name, member in codec.to_json(policy).items() if isinstance(member, dict) and "any" in member
        ]
        if open_ends:
            click.echo(f"any     {', '.join(open_ends)}")


@policy_command.command("sign")
@click.argument("path")
@click.option("--identity", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Your private key.")
@click.option("-o", "--output", "target", required=True, type=click.Path(dir_okay=False, path_type=Path))
@output.json_option
def sign(path: str, identity: Path, target: Path, *, as_json: bool) -> None:
    """Sign a policy (TOML) into an envelope."""
    policy = from_toml(output.read_file(path).decode("utf-8", "replace"))
    envelope = sign_policy(policy, private_from_pem(output.read_file(identity)))
    output.write_file(target, envelope.to_bytes())
    if as_json:
        output.print_json({"id": policy.id, "version": policy.version, "digest": policy.digest, "file": str(target)})
    else:
        click.echo(f"{target}: {policy.id} version {policy.version}, {policy.digest}")


@policy_command.command("put")
@click.argument("path")
@click.option("--dry-run", is_flag=True, help="Say which live leases would still pass under it; change nothing.")
@broker_options
@output.json_option
def put(path: str, broker: str, broker_fingerprint: str, identity: Path, *, dry_run: bool, as_json: bool) -> None:
    """Give a signed policy to the broker. Its version never goes back."""
    envelope = Envelope.from_bytes(output.read_file(path))
    client = broker_client(broker, broker_fingerprint, identity)
    if dry_run:
        show_trial(client.try_policy(envelope), as_json=as_json)
        return
    info = client.put_policy(envelope)
    if as_json:
        output.print_json(codec.to_json(info))
    else:
        click.echo(f"{info.id} version {info.version} is in force")


@policy_command.command("explain")
@click.argument("evidence")
@click.option("--policy", required=True, metavar="FILE")
@click.option("--owner", metavar="FILE")
@signed_options
@click.option("--expected-log", metavar="FILE", help="The event log of a boot that was as it should be.")
@click.option("--spec", metavar="SPEC", help="The launch specification that the machine should have been started from.")
@click.option("--anchor", multiple=True, metavar="FILE", help="Installation roots (PEM).")
@click.option("--at", type=Moment(), help="Judge as of this moment (Unix seconds, or ISO 8601).")
@output.json_option
def explain_command(evidence: str, policy: str, at: int | None, *, as_json: bool, **given: Any) -> None:
    """Say which checks EVIDENCE does not pass under a policy, what usually makes them fail, and which input differs."""
    bundle = _bundle(evidence)
    known = read_known(given["references"], given["custody"], given["provenance"], given["signers"])
    verdict = appraise(
        bundle,
        policy=load_policy(policy, given["owner"]),
        anchors=load_anchors(*given["anchor"], enrollers=given["enrollers"]),
        nonce=bundle.evidence.nonce,
        purpose=bundle.evidence.purpose,
        now=int(time.time()) if at is None else at,
        known=known,
    )
    inputs = _inputs(bundle, verdict, known, given["expected_log"])
    if given["spec"] is not None:
        inputs = [*_launch_inputs(bundle.evidence, verdict, given["spec"]), *inputs]
    rows = explain(verdict)
    if as_json:
        found = [{"id": c.id, "status": c.status.value, "detail": c.detail, "cause": why} for c, why in rows]
        document = {"accepted": verdict.accepted, "level": verdict.level.value, "failed": found, "inputs": inputs}
        output.print_json(document)
    elif not rows:
        click.echo("every check passes")
    for row, why in rows if not as_json else ():
        output.checks([row])
        if why:
            click.echo(f"      usually: {why}")
    for text in inputs if not as_json else ():
        click.echo(f"  input: {text}")
    if not verdict.accepted:
        raise click.exceptions.Exit(1)


def _inputs(bundle: EvidenceBundle, verdict: Verdict, known: Known, expected_log: str | None) -> list[str]:
    """Which inputs differ: of the boot, if somebody said what a good one measures; and of run time."""
    evidence = bundle.evidence
    expected = expected_inputs(known, evidence.statement.image)
    if expected_log is not None:
        expected = measured_inputs(evidence.kind, output.read_file(expected_log))
    return [*explain_registers(evidence, verdict, expected), *explain_events(evidence)]


def _launch_inputs(evidence: Evidence, verdict: Verdict, path: str) -> list[str]:
    """Which input of the launch differs from its specification; the machine's own log counts only if it replays."""
    from strongroom.cli.measure import expect, load_spec
    from strongroom.launch.explain import explain_launch

    spec = load_spec(path)
    if spec.tee != evidence.kind:
        raise UsageError(f"the specification is of a {spec.tee} machine, the evidence of {evidence.kind}")
    claims = kind_of(evidence.kind).stated(evidence.quote)
    replayed = evidence.log and not any(
        ".log." in c.id and c.id.endswith((".parse", ".replay")) for c in verdict.failed
    )
    actual = measured_inputs(evidence.kind, evidence.log) if replayed else ()
    said = explain_launch(expect(spec, path), claims, actual)
    if evidence.statement.launch_spec not in {None, spec.digest}:
        said.insert(0, f"launch specification: expected {spec.digest}, stated {evidence.statement.launch_spec}")
    return said
