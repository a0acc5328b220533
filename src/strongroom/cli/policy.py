"""`strongroom policy`: write, check, sign, publish and explain policies."""

from __future__ import annotations

import time
from pathlib import Path

import click

from strongroom.appraisal import appraise
from strongroom.appraisal.explain import explain
from strongroom.appraisal.policies import from_toml, sign_policy, template, to_toml
from strongroom.cli import output
from strongroom.cli.evidence_files import read_evidence
from strongroom.cli.remote import broker_client, broker_options, digest, load_anchors, load_policy
from strongroom.crypto.signatures import private_from_pem
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.policy import Reference


@click.group("policy", short_help="write, check, sign, publish and explain policies")
def policy_command() -> None:
    """What an owner wants of a place: write it, check it, sign it, and see why evidence does not meet it."""


@policy_command.command("new")
@click.argument("identifier")
@click.option(
    "--evidence", type=click.Path(dir_okay=False), help="Evidence of a worker you trust; its registers are pinned."
)
@click.option("--artifact", "artifacts", multiple=True, required=True, help="Digest of an artifact that may be opened.")
@click.option("--workload", default="inference", show_default=True, help="What may be run: inference or job.")
@click.option("--simulated", is_flag=True, help="A policy for a simulated TEE; it accepts nothing else.")
@click.option(
    "-o", "--output", "target", type=click.Path(dir_okay=False, path_type=Path), help="Where to; else the terminal."
)
@output.json_option
def new(
    identifier: str,
    evidence: str | None,
    artifacts: tuple[str, ...],
    workload: str,
    target: Path | None,
    *,
    simulated: bool,
    as_json: bool,
) -> None:
    """Print a policy to start from. Every member is there; read each, and pin what you know."""
    if evidence is None:
        raise UsageError(
            "a policy needs reference values", remedy="Name the evidence of a worker that you trust with --evidence."
        )
    bundle = _bundle(evidence)
    pinned = [digest(artifact) for artifact in artifacts]
    policy = template(
        identifier, references=[reference_of(bundle)], artifacts=pinned, simulated=simulated, workload=workload
    )
    text = to_toml(policy)
    if target is not None:
        output.write_file(target, text.encode())
    if as_json:
        output.print_json({"digest": policy.digest, "policy": codec.to_json(policy), "toml": text})
    elif target is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"{target}: read every line; then `strongroom policy sign {target}`", err=True)


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
    from strongroom.tee.tdx import parse_quote

    body = parse_quote(bundle.evidence.quote).body
    return Reference(
        image=bundle.evidence.statement.image,
        mrtd=body.mrtd.hex(),
        rtmr0=body.rtmr0.hex(),
        rtmr1=body.rtmr1.hex(),
        rtmr2=body.rtmr2.hex(),
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
@broker_options
@output.json_option
def put(path: str, broker: str, broker_fingerprint: str, identity: Path, *, as_json: bool) -> None:
    """Give a signed policy to the broker. Its version never goes back."""
    envelope = Envelope.from_bytes(output.read_file(path))
    info = broker_client(broker, broker_fingerprint, identity).put_policy(envelope)
    if as_json:
        output.print_json(codec.to_json(info))
    else:
        click.echo(f"{info.id} version {info.version} is in force")


@policy_command.command("explain")
@click.argument("evidence")
@click.option("--policy", required=True, metavar="FILE")
@click.option("--owner", metavar="FILE")
@click.option("--anchor", metavar="FILE", help="PEM of an installation root.")
@click.option("--at", type=int, help="Judge as of this moment (Unix seconds).")
@output.json_option
def explain_command(
    evidence: str, policy: str, owner: str | None, anchor: str | None, at: int | None, *, as_json: bool
) -> None:
    """Say which checks EVIDENCE does not pass under a policy, and what usually makes them fail."""
    bundle = _bundle(evidence)
    verdict = appraise(
        bundle,
        policy=load_policy(policy, owner),
        anchors=load_anchors(anchor),
        nonce=bundle.evidence.nonce,
        purpose=bundle.evidence.purpose,
        now=int(time.time()) if at is None else at,
    )
    rows = explain(verdict)
    if as_json:
        found = [{"id": c.id, "status": c.status.value, "detail": c.detail, "cause": why} for c, why in rows]
        output.print_json({"accepted": verdict.accepted, "level": verdict.level.value, "failed": found})
    elif not rows:
        click.echo("every check passes")
    for row, why in rows if not as_json else ():
        output.checks([row])
        if why:
            click.echo(f"      usually: {why}")
    if not verdict.accepted:
        raise click.exceptions.Exit(1)
