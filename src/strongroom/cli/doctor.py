"""`strongroom doctor`: what of this host is ready for which purpose."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli import output
from strongroom.launch.doctor import PURPOSES, Finding, Report, Status, examine, machine, purposes_of
from strongroom.launch.doctor.finding import Check
from strongroom.launch.matrix import matrix

MARKS = {Status.PASS: "✓", Status.FAIL: "✗", Status.UNKNOWN: "?"}


@click.command("doctor", short_help="whether this host is ready, and what to do where it is not")
@click.option(
    "--for",
    "purposes",
    multiple=True,
    type=click.Choice(list(PURPOSES)),
    help="What the host is to be; may be given more than once. Else what its CPU and GPUs suggest.",
)
@click.option(
    "--root",
    default="/",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the host's files are, if it is not this one: a mount, or a copy.",
)
@click.option(
    "--matrix", "show_matrix", is_flag=True, help="Print what is supported together, and who says so; look at no host."
)
@output.json_option
def doctor_command(purposes: tuple[str, ...], root: Path, *, show_matrix: bool, as_json: bool) -> int:
    """Check whether this host is ready: secure boot, TPM, IOMMU, KVM, TDX, SEV-SNP, GPUs, room, kernel, clock.

    Each check is pass, fail or unknown, with a remedy; unknown is no pass. Ends with 0 only if all that was asked for
    passes. Look as root, or much is unknown. A host speaks for itself here: this proves nothing to anybody else.
    """
    if show_matrix:
        _print_matrix(as_json=as_json)
        return 0
    host = machine(root)
    report = examine(host, tuple(dict.fromkeys(purposes)) or purposes_of(host))
    if as_json:
        output.print_json(report.as_dict())
    else:
        _print(report)
    return 0 if report.accepted else 1


def _print(report: Report) -> None:
    output.table(["", "check", "status", "detail"], [_row(check, finding) for check, finding in report.relevant])
    todo: dict[str, list[str]] = {}
    for check, finding in report.relevant:
        if finding.remedy:
            todo.setdefault(finding.remedy, []).append(check.id)
    if todo:
        click.echo("\nwhat to do")
    for remedy, ids in todo.items():
        click.echo(f"  {', '.join(ids)}:\n    {remedy}")
    click.echo()
    for purpose in report.asked:
        click.echo(f"{purpose.ljust(8)}  {'ready' if report.ready(purpose) else 'not ready'}: to {PURPOSES[purpose]}")


def _row(check: Check, finding: Finding) -> tuple[str, str, str, str]:
    return MARKS[finding.status], check.id, finding.status.value, finding.detail


def _print_matrix(*, as_json: bool) -> None:
    found = matrix()
    if as_json:
        output.print_json(found.as_dict())
        return
    click.echo("CPUs with GPUs, and the host's software\n")
    headings = ["TEE", "CPU", "GPU", "kernel", "system", "source"]
    output.table(headings, [(h.tee, h.cpus, h.gpus, h.kernel, h.system, h.source) for h in found.hosts])
    click.echo("\nGPUs with the guest's software\n")
    output.table(
        ["GPU", "mode", "driver", "CUDA", "source"], [(g.gpu, g.mode, g.driver, g.cuda, g.source) for g in found.gpus]
    )
    click.echo(f"\nsources, as read on {found.read}; nothing of this was tried by strongroom\n")
    for name, source in found.sources.items():
        click.echo(f"  {name.ljust(8)}  {source}")
