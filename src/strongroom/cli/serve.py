"""`strongroom serve`: the confidential inference service, one worker of it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strongroom.channel.credit import Issuers
from strongroom.channel.pacing import BUCKETS, MAX_FLUSH_MS, Pacing
from strongroom.cli import output
from strongroom.cli.models import models_of, models_options
from strongroom.cli.observing import Observing, observing_options
from strongroom.cli.remote import broker_address
from strongroom.cli.surroundings import surroundings_of, surroundings_options
from strongroom.cli.tenants import tenancy, tenant_options
from strongroom.crypto import blind_rsa
from strongroom.crypto.signatures import PublicKey
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.worker import Configuration
from strongroom.worker.life import State

if TYPE_CHECKING:
    from strongroom.engines.upstream import Kind
    from strongroom.services.gateway import Within

MAX_KEY = 16 * 1024


@click.command("serve", short_help="the confidential inference service, one worker of it")
@click.argument("references", nargs=-1, required=True, metavar="[NAME=]REFERENCE...")
@broker_address
@surroundings_options
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT")
@click.option("--name", default="default", show_default=True, help="The model's name for clients.")
@click.option("--context", type=click.IntRange(256), default=4096, show_default=True, help="Tokens of context.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of the engine.")
@click.option(
    "--slots", type=click.IntRange(1, 64), default=1, show_default=True, help="Requests answered side by side."
)
@models_options
@click.option("--tls", is_flag=True, help="Speak TLS with a key made inside, which clients know from the evidence.")
@click.option(
    "--bucket",
    type=click.Choice([str(size) for size in BUCKETS]),
    default="256",
    show_default=True,
    help="Messages are padded to multiples of this many bytes.",
)
@click.option(
    "--flush-ms",
    type=click.IntRange(0, MAX_FLUSH_MS),
    default=0,
    show_default=True,
    help="Tokens travel together each so many milliseconds; 0: each at once.",
)
@click.option(
    "--embeddings",
    is_flag=False,
    flag_value="model",
    type=click.Choice(["model", "mean", "cls", "last"]),
    help="Serve embeddings, too, pooled as the model says or as named here.",
)
@click.option(
    "--credits",
    "issuers",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Public key of an issuer (`credits key`); each request then costs one of its credits. Repeatable.",
)
@click.option(
    "--credits-spent",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the credits that were spent; else in memory, for as long as this worker lives.",
)
@tenant_options
@observing_options
@click.option("--show-configuration", is_flag=True, help="Print the digest that a policy pins, and end.")
@output.json_option
def serve_command(
    references: tuple[str, ...],
    listen: str,
    name: str,
    context: int,
    threads: int,
    slots: int,
    bucket: str,
    flush_ms: int,
    embeddings: str | None,
    issuers: tuple[Path, ...],
    credits_spent: Path | None,
    tenants: Path | None,
    adapters: tuple[str, ...],
    own: tuple[str, ...],
    queue: int,
    resident: int | None,
    engine_command: str | None,
    engine_kind: Kind,
    engine_scratch: int,
    restarts: int,
    patience: float,
    *,
    engine_compiles: bool,
    engine_unsafe_gpus: bool,
    cache: bool,
    metrics_token: Path | None,
    otlp: str | None,
    otlp_token: Path | None,
    tls: bool,
    show_configuration: bool,
    as_json: bool,
    **told: Any,
) -> None:
    """Prove this place, obtain the keys of the sealed models, open them into memory and serve them.

    Of several models each has a name that requests choose by: NAME=REFERENCE.
    Ends with exit 1 when its lease ends: it has then drained and wiped. At SIGHUP it looks at its references again: another
    artifact there is measured, its key obtained, and it takes the place of the one before.
    """
    from strongroom.engines.server import Needs
    from strongroom.services.server import parse_listen, require_free
    from strongroom.services.worker import configuration, inference, run_worker
    from strongroom.workloads.inference.models import Restarts

    host, port = parse_listen(listen)
    surroundings = surroundings_of(**told)
    settings: dict[str, str | int] = {"context": context, "threads": threads, "slots": slots}
    let_in = tenancy(tenants, adapters, surroundings.signer, cache=cache)
    settings |= let_in.engine
    if embeddings is not None:
        settings |= {"embeddings": 1, "pooling": "" if embeddings == "model" else embeddings}
    models = models_of(
        references,
        name,
        settings,
        own=own,
        queue=queue,
        resident=resident,
        command=engine_command,
        kind=engine_kind,
        needs=Needs(engine_scratch, compiles=engine_compiles, unsafe_gpus=engine_unsafe_gpus),
    )
    pacing, counted = Pacing(int(bucket), flush_ms), _issuers(issuers)
    ways: dict[str, str | int] = {"tls": int(tls), "bucket": pacing.bucket, "flush_ms": pacing.flush_ms}
    if counted is not None:
        ways["credits"] = counted.digest
    ways |= let_in.measured
    observing = Observing(metrics_token, otlp, otlp_token)
    ways |= observing.settings
    if let_in.references and (len(models.models) > 1 or models.command):
        raise UsageError(
            "tenants' adapters are for one model in llama.cpp", remedy="Serve it by itself, or leave --adapter out."
        )
    chosen = configuration("inference", surroundings, {"engine": "llama", **models.measured(), **ways})
    if show_configuration:
        show(chosen, as_json=as_json)
        return
    observer = observing.observer(name, slots)
    layers = let_in.around(_till(counted, credits_spent))
    workload = inference(
        models,
        profile=surroundings.profile,
        host=host,
        port=port,
        ready=lambda url: report_line(as_json, "serving", url),
        pacing=pacing,
        within=lambda app: observer.inside(app if layers is None else layers(app)),
        around=observer.outside,
        restarts=Restarts(most=restarts),
        patience=patience,
        heard=lambda text: report_line(as_json, "engine", text),
    )
    report = reporter(as_json=as_json)

    def noted(state: State, text: str) -> None:
        observer.state(state.value)
        report(state, text)

    opened: list[str | tuple[str, PublicKey]] = [*models.references, *let_in.references]
    require_free(host, port)  # before the TEE measures anything, which it does once a boot
    with observing.exporting(observer):
        asyncio.run(run_worker(workload, surroundings, chosen, opened, noted))


def _issuers(paths: tuple[Path, ...]) -> Issuers | None:
    """The issuers that were named, or None where none was."""
    keys = [blind_rsa.public_from_der(output.read_file(path, limit=MAX_KEY)) for path in paths]
    return Issuers(keys) if keys else None


def _till(issuers: Issuers | None, spent: Path | None) -> Within | None:
    from strongroom.services.credits.spent import SpentInFile, SpentInMemory
    from strongroom.services.credits.till import Till

    if issuers is None:
        if spent is not None:
            raise UsageError("--credits-spent without --credits", remedy="Name the issuer whose credits count.")
        return None
    kept = SpentInFile(spent) if spent is not None else SpentInMemory()
    return lambda app: Till(app, issuers, kept)


def show(chosen: Configuration, *, as_json: bool) -> None:
    """The digest that a policy pins, and for programs all that is in it."""
    if as_json:
        output.print_json({"configuration": chosen.digest, "record": codec.to_json(chosen)})
    else:
        click.echo(chosen.digest)


def report_line(as_json: bool, state: str, detail: str) -> None:  # noqa: FBT001 (a line of output has a form)
    """One state, as a line of JSON for programs or of text for people."""
    line = json.dumps({"state": state, "detail": detail}) if as_json else f"{state.ljust(9)} {detail}"
    click.echo(line)
    sys.stdout.flush()


def reporter(*, as_json: bool) -> Any:
    """What a worker tells its states to."""

    def report(state: State, text: str) -> None:
        report_line(as_json, state.value, text)

    return report
