"""`strongroom job`: anyone's own code under the same proof: signed, run once on sealed inputs, its outputs sealed to recipients."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strongroom.cli import output
from strongroom.cli.evidence_files import read_known
from strongroom.cli.remote import broker_address, digest, load_anchors, load_policy, trust_options
from strongroom.cli.serve import show
from strongroom.cli.surroundings import surroundings_of, surroundings_options
from strongroom.crypto.signatures import private_from_pem, public_from_pem, public_to_pem
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.envelope import Envelope

if TYPE_CHECKING:
    from strongroom.records.job import JobSpec
    from strongroom.worker.life import State
    from strongroom.workloads.job.workload import Finished

MAX_CODE = 64 * 1024 * 1024
PATH = click.Path(dir_okay=False, path_type=Path)


@click.group("job", short_help="your own code on sealed inputs, under the same proof")
def job_command() -> None:
    """Run your own code on sealed inputs, in a place that proves what it is."""


@job_command.command("sign")
@click.argument("spec", type=PATH)
@click.option("--code", required=True, type=PATH, help="The script or wheel that is to run.")
@click.option("--identity", required=True, type=PATH, help="Your private key (`strongroom keys new`); it signs.")
@click.option("-o", "--output", "target", required=True, type=PATH)
@output.json_option
def sign(spec: Path, code: Path, identity: Path, target: Path, *, as_json: bool) -> None:
    """Sign the job in SPEC (TOML) for exactly this code. Key files in SPEC are looked for beside it.

    \b
    name = "sum"
    inputs = ["sha256:…"]          # sealed artifacts, in the order of inputs/0, inputs/1, …
    arguments = ["--fast"]         # may be left out
    entry = "package.module:main"  # of a wheel; left out for a script
    recipients = ["me.key.pub"]    # who can open the outputs (`keys new --kind recipient`)
    seconds = 60
    output_bytes = 1_000_000

    The code runs where it finds inputs/ and outputs/; it has no network and only what the worker has installed.
    """
    from strongroom.workloads.job.spec import from_toml, sign_job

    text = output.read_file(spec).decode("utf-8", "replace")
    job = from_toml(text, output.read_file(code), lambda name: output.read_file(spec.parent / name))
    output.write_file(target, sign_job(job, private_from_pem(output.read_file(identity))).to_bytes())
    if as_json:
        output.print_json({"name": job.name, "digest": job.digest, "code": job.code, "file": str(target)})
    else:
        click.echo(f"{target}: {job.name}, {job.digest}")


@job_command.command("run")
@click.argument("job")
@click.option("--code", metavar="FILE", help="The script or wheel that was signed.")
@click.option(
    "--input", "inputs", multiple=True, metavar="REF", help="A sealed input; one for each of the job, in order."
)
@click.option("--output", "target", metavar="REF", help="Where the sealed outputs go (dir:PATH[:TAG]).")
@click.option(
    "--receipt", type=PATH, default=Path("job-receipt.json"), show_default=True,
    help="Where the receipt goes; beside it, with .pub, the key that signs the outputs. - prints both.",
)  # fmt: skip
@click.option(
    "--nonce", metavar="HEX", help="Your own 32 bytes, which the evidence in the receipt answers; else fresh ones."
)
@broker_address
@surroundings_options
@click.option("--show-configuration", is_flag=True, help="Print the digest that a policy pins, and end.")
@output.json_option
def run(
    job: str,
    code: str | None,
    inputs: tuple[str, ...],
    target: str | None,
    receipt: Path,
    nonce: str | None,
    *,
    show_configuration: bool,
    as_json: bool,
    **told: Any,
) -> None:
    """Prove this place, obtain the keys of the inputs, run JOB on them once, and seal its outputs to its recipients.

    Exit 1 if the job fails: the receipt says so, and what it printed is in its sealed outputs, for the recipients alone.
    """
    from strongroom.services.jobs import job_configuration, level_of, order, run_job

    surroundings = surroundings_of(**told)
    spec = _open(job, told["signer"])
    if show_configuration:
        show(job_configuration(spec, surroundings), as_json=as_json)
        return
    if code is None or target is None or not inputs:
        raise UsageError(
            "a job needs its code, its inputs and a place for its outputs", remedy="--code --input --output"
        )
    wanted = order(spec, output.read_file(code), target, _nonce(nonce))
    printed = str(receipt) == "-"
    public = receipt.with_name(receipt.name + ".pub")
    for place in () if printed else (receipt, public):
        _must_be_free(place)
    left: list[Finished] = []

    def deliver(finished: Finished) -> None:
        left.append(finished)
        if printed:
            shown = {"receipt": codec.to_json(finished.receipt), "signer": public_to_pem(finished.signer).decode()}
            click.echo(json.dumps(shown))
            return
        output.write_file(receipt, codec.encode(finished.receipt))
        output.write_file(public, public_to_pem(finished.signer))

    asyncio.run(run_job(wanted, surroundings, inputs, deliver=deliver, report=_report))
    (finished,) = left
    facts = {
        "digest": finished.result.outputs,
        "outputs": finished.files,
        "receipt": str(receipt),
        "signer": str(public),
        "level": level_of(finished.receipt.release, surroundings.broker_fingerprint).value,
    }
    output.print_json(facts) if as_json else output.table(("WHAT", "VALUE"), facts.items())


@job_command.command("verify")
@click.argument("receipt")
@click.option("--job", required=True, metavar="FILE", help="The signed job that must have run.")
@click.option("--signer", required=True, metavar="FILE", help="Public key of who signed the job.")
@click.option("--outputs", required=True, metavar="REF", help="The sealed outputs that must be its own.")
@click.option("--outputs-signer", metavar="FILE", help="The key that signs the outputs; else RECEIPT.pub.")
@trust_options
@output.json_option
def verify(
    receipt: str,
    job: str,
    signer: str,
    outputs: str,
    outputs_signer: str | None,
    broker_fingerprint: str | None,
    *,
    as_json: bool,
    **trust: Any,
) -> None:
    """Check offline that a trusted worker ran this job to its end and that these are its outputs; then `strongroom open` them."""
    from strongroom.client.verification import Trust
    from strongroom.receipts.receipt import ReceiptDocument
    from strongroom.sealed.registries import from_reference
    from strongroom.workloads.job.result import check_result

    registry, reference = from_reference(outputs)
    found = registry.resolve(reference)
    checked = check_result(
        codec.decode(ReceiptDocument, output.read_file(receipt)),
        _open(job, signer),
        found,
        public_from_pem(output.read_file(outputs_signer or f"{receipt}.pub")),
        Trust(
            policy=load_policy(trust["policy"], trust["owner"]),
            anchors=load_anchors(trust["anchor"], enrollers=trust["enrollers"]),
            broker=digest(broker_fingerprint) if broker_fingerprint else None,
            accept_simulated=trust["accept_simulated"],
            known=read_known(trust["references"], trust["custody"], trust["provenance"], trust["signers"]),
        ),
    )
    facts = {
        "accepted": True,
        "level": checked.verdict.level.value,
        "outputs": found,
        "usage": dict(checked.receipt.usage),
    }
    output.print_json(facts) if as_json else output.table(("WHAT", "VALUE"), facts.items())


def _open(job: str, signer: str) -> JobSpec:
    from strongroom.workloads.job.spec import open_job

    return open_job(Envelope.from_bytes(output.read_file(job)), [public_from_pem(output.read_file(signer))])


def _nonce(text: str | None) -> bytes:
    try:
        return secrets.token_bytes(32) if text is None else bytes.fromhex(text)
    except ValueError:
        raise UsageError(
            "a nonce is written in hexadecimal digits", remedy="Write 64 of them, or leave it out."
        ) from None


def _must_be_free(place: Path) -> None:
    """Before anything is run: nobody wants to hear this after an hour."""
    if place.exists():
        raise UsageError(f"{place} is already there", remedy="Choose another name; strongroom overwrites nothing.")


def _report(state: State, detail: str) -> None:
    """States are for people; standard output is for the result."""
    click.echo(f"{state.value.ljust(9)} {detail}", err=True)
