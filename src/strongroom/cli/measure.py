"""`strongroom measure`: what the registers of a machine will hold, before it boots."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.appraisal.kinds import kind_of
from strongroom.appraisal.signed import sign_references
from strongroom.appraisal.statement import launch_register
from strongroom.cli import output
from strongroom.crypto.signatures import private_from_pem
from strongroom.errors import UsageError
from strongroom.launch.measure import Expected, measure
from strongroom.launch.measure.reference import reference_of
from strongroom.launch.spec import from_toml, read_images
from strongroom.records.launch import LaunchSpec
from strongroom.records.reference import MeasuredInput, ReferenceValues

MAX_WHAT = 256


def load_spec(path: str | Path) -> LaunchSpec:
    """A launch specification in a file. Raises `Unreadable` errors."""
    return from_toml(output.read_file(path).decode("utf-8", "replace"))


def expect(spec: LaunchSpec, path: str | Path, *, bank: str = "sha256") -> Expected:
    """What is expected of the specification at `path`, whose pinned files lie beside it."""
    return measure(spec, read_images(spec, Path(path).resolve().parent), bank=bank)


@click.command("measure", short_help="what the registers of a machine will hold, before it boots")
@click.argument("path", metavar="SPEC", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--bank", type=click.Choice(["sha256", "sha384"]), default="sha256", show_default=True, help="Of a TPM.")
@click.option("--inputs", is_flag=True, help="List what goes into each register, too.")
@click.option(
    "--reference", type=click.Path(dir_okay=False, path_type=Path), help="Write signed reference values here."
)
@click.option("--identity", type=click.Path(dir_okay=False, path_type=Path), help="Your private key, as a builder.")
@click.option("--builder", default="the image's builder", show_default=True, help="Who you are, for who reads them.")
@click.option("--edition", type=click.IntRange(min=1), default=1, show_default=True, help="Their version; never back.")
@output.json_option
def measure_command(
    path: Path,
    bank: str,
    reference: Path | None,
    identity: Path | None,
    builder: str,
    edition: int,
    *,
    inputs: bool,
    as_json: bool,
) -> None:
    """Compute the registers of the machine that SPEC describes, from the files that it pins. Nothing is started."""
    if (reference is None) != (identity is None):
        raise UsageError("reference values are signed", remedy="Give --reference FILE and --identity KEY together.")
    spec = load_spec(path)
    expected = expect(spec, path, bank=bank)
    if reference is not None and identity is not None:
        values = ReferenceValues(builder, edition, (reference_of(spec, expected),), measured_inputs(spec, expected))
        output.write_file(reference, sign_references(values, private_from_pem(output.read_file(identity))).to_bytes())
    if as_json:
        output.print_json(document(spec, expected))
        return
    click.echo(f"{spec.name}: {spec.tee}\nspec   {spec.digest}\nimage  {spec.image}\n")
    rows = [*expected.registers.items(), *_launch(spec).items(), *((name, "–") for name in expected.unknown)]
    output.table(("register", "value"), rows)
    for name, why in expected.unknown.items():
        click.echo(f"  {name} is not computed: {why}")
    if inputs:
        click.echo()
        output.table(
            ("register", "event", "digest", "input"),
            [(row.register, row.type, row.digest[:16], f"{row.origin}: {row.description}") for row in expected.inputs],
        )
    if reference is not None:
        click.echo(f"\n{reference}: reference values, edition {edition}")


def document(spec: LaunchSpec, expected: Expected) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "name": spec.name,
        "kind": expected.kind,
        "spec": spec.digest,
        "image": spec.image,
        "registers": dict(expected.registers),
        "launch": _launch(spec),
        "unknown": dict(expected.unknown),
        "inputs": [
            {
                "register": row.register,
                "type": row.type,
                "digest": row.digest,
                "origin": row.origin,
                "what": row.description,
            }
            for row in expected.inputs
        ],
    }


def measured_inputs(spec: LaunchSpec, expected: Expected) -> tuple[MeasuredInput, ...]:
    """The inputs as reference values carry them, for explanations."""
    return tuple(
        MeasuredInput(spec.image, row.register, row.type, row.digest, f"{row.origin}: {row.description}"[:MAX_WHAT])
        for row in expected.inputs
    )


def _launch(spec: LaunchSpec) -> dict[str, str]:
    """The register that holds the specification's digest, if the kind has one."""
    found = kind_of(spec.tee).launch_spec
    return {} if found is None else {found[0]: launch_register(spec.digest, found[1])}
