"""`strongroom copy`: a sealed artifact from one place to another."""

from __future__ import annotations

import click

from strongroom.cli import output


@click.command("copy", short_help="copy an artifact between folders and registries, without a key")
@click.argument("source", metavar="REF")
@click.argument("target", metavar="REF")
@output.json_option
def copy_command(source: str, target: str, *, as_json: bool) -> None:
    """Copy the sealed artifact at the first REF to the second, with its signatures; the tag comes last.

    REF is dir:PATH or oci://HOST/NAME, with :TAG or @sha256:HEX after it. Every blob's digest is checked on the way. What
    is there already is skipped: started again, an interrupted copy goes on.
    """
    from strongroom.sealed.copy import copy
    from strongroom.sealed.registries import from_reference

    (here, reference), (there, tag) = from_reference(source), from_reference(target)
    copied = copy(here, reference, there, tag, progress=output.Progress("copying", quiet=as_json))
    facts = {
        "digest": copied.digest,
        "reference": target,
        "bytes": copied.total_bytes,
        "there_before": copied.there_before,
        "signatures": copied.signatures,
    }
    if as_json:
        output.print_json(facts)
    else:
        output.table(("WHAT", "VALUE"), facts.items())
