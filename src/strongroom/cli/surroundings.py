"""The options of every command that runs a worker."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import click

from strongroom.cli import output
from strongroom.cli.output import F
from strongroom.cli.remote import digest
from strongroom.cli.witness import quorum, quorum_options
from strongroom.crypto.signatures import public_from_pem

if TYPE_CHECKING:
    from strongroom.services.worker import Profile, Surroundings

_OPTIONS = (
    click.option("--signer", required=True, metavar="FILE", help="Public key of the owner who signed what is opened."),
    click.option("--image", required=True, metavar="DIGEST", help="Digest of the image that was launched here."),
    click.option("--launch-spec", metavar="DIGEST", help="Digest of the launch specification, if there is one."),
    click.option(
        "--collateral",
        required=True,
        type=click.Path(path_type=Path),
        help="What the vendor signs about this platform.",
    ),
    click.option(
        "--tee-root",
        type=click.Path(path_type=Path),
        default=Path("/"),
        help="Where a simulated TEE is; else this machine's.",
    ),
    click.option(
        "--tee-kind",
        metavar="NAME",
        help="gce-snp or gce-tdx, where Google's vTPM is to be asked too; else what is there.",
    ),
    click.option(
        "--enrol",
        is_flag=True,
        help="Have this machine's TPM enrolled by the broker; --collateral is then what stands above its endorsement key.",
    ),
    click.option(
        "--profile", type=click.Choice(["production", "development"]), default="production", show_default=True
    ),
)


def surroundings_options(command: F) -> F:
    """Adds the options."""
    return quorum_options(reduce(lambda made, option: option(made), reversed(_OPTIONS), command))


def surroundings_of(
    *,
    broker: str,
    broker_fingerprint: str,
    signer: str,
    image: str,
    launch_spec: str | None,
    collateral: Path,
    tee_root: Path,
    tee_kind: str | None,
    profile: Profile,
    named: tuple[str, ...],
    least: int | None,
    enrol: bool,
) -> Surroundings:
    """What the options say, as one object."""
    from strongroom.services.worker import Surroundings

    return Surroundings(
        broker=broker,
        broker_fingerprint=digest(broker_fingerprint),
        signer=public_from_pem(output.read_file(signer)),
        image=digest(image),
        launch_spec=digest(launch_spec) if launch_spec else None,
        collateral=collateral,
        tee_root=tee_root,
        tee_kind=tee_kind,
        profile=profile,
        witnesses=quorum(named, least),
        enrol=enrol,
    )
