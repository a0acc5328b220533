"""`strongroom erase`: take an artifact out of a registry, and hear what that does not reach."""

from __future__ import annotations

import click

from strongroom.cli import output
from strongroom.errors import UsageError


@click.command("erase", short_help="take an artifact out of a registry; what that does not reach is said")
@click.argument("reference")
@click.option("--yes", is_flag=True, help="Do it; without this, nothing is removed.")
@output.json_option
def erase_command(reference: str, *, yes: bool, as_json: bool) -> None:
    """Remove the artifact at REFERENCE: its wrapped data key first, then its layers and signatures.

    Exit 1 if something of it is still there. Nobody can take back copies, or the data key from who has it: the
    command lists them.
    """
    from strongroom.sealed.erase import erase
    from strongroom.sealed.registries import from_reference

    registry, tag = from_reference(reference)
    if not yes:
        found = registry.resolve(tag)
        raise UsageError(f"this would remove {found} for good", remedy="Say --yes.")
    done = erase(registry, tag)
    if as_json:
        output.print_json(
            {
                "digest": done.digest,
                "gone": list(done.gone),
                "kept": list(done.kept),
                "still": list(done.still),
                "unreached": list(done.unreached),
            }
        )
    else:
        click.echo(f"{done.digest}: {len(done.gone)} blobs removed, {len(done.kept)} kept for other artifacts")
        rows = [("not reached", text) for text in done.unreached] + [("still there", digest) for digest in done.still]
        output.table(("WHAT", "WHERE"), rows)
    if done.still:
        raise click.exceptions.Exit(1)
