"""The options by which a broker enrols TPMs."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strongroom.appraisal.gather import read_anchors
from strongroom.cli import output
from strongroom.cli.output import F
from strongroom.crypto.signatures import private_from_pem
from strongroom.errors import UsageError
from strongroom.records.policy import Requirement
from strongroom.tee.anchors import VENDOR_ANCHORS
from strongroom.tee.tpm.enrol import CHECKED
from strongroom.tee.tpm.trust import KIND

if TYPE_CHECKING:
    from strongroom.release.enrolments import Enroller

_OPTIONS = (
    click.option(
        "--enrol-tpms",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Enrol TPMs, and sign the notes with this private key, which then counts here; else nobody is enrolled.",
    ),
    click.option(
        "--ek-anchor",
        "ek_anchors",
        multiple=True,
        metavar="FILE",
        help="PEM of an installation root above endorsement keys; TPM makers' pinned roots count in any case. Repeatable.",
    ),
    click.option(
        "--enrol-days", type=click.IntRange(1, 366), default=30, show_default=True, help="How long such a note holds."
    ),
    click.option("--ek-any-revocation", metavar="REASON", help="Enrol also where nobody gave a revocation list."),
)


def enrolling_options(command: F) -> F:
    """Adds the options."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)


def take_enroller(told: dict[str, Any]) -> Enroller | None:
    """Who enrols, as the options say, which are taken out of `told`; None where nobody does. Raises `UsageError`."""
    from strongroom.release.enrolments import Enroller

    key, paths, days, reason = (
        told.pop(name) for name in ("enrol_tpms", "ek_anchors", "enrol_days", "ek_any_revocation")
    )
    if key is None:
        if paths or reason:
            raise UsageError("roots of endorsement keys, and nobody enrols", remedy="Name your key with --enrol-tpms.")
        return None
    roots = [*VENDOR_ANCHORS, *(anchor for path in paths for anchor in read_anchors(output.read_file(path)))]
    return Enroller(
        private_from_pem(output.read_file(key)),
        tuple(anchor for anchor in roots if anchor.kind == KIND),
        days * 86_400,
        Requirement(any=reason) if reason else CHECKED,
    )
