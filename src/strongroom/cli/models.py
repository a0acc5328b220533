"""The options of `strongroom serve` that say which models, how many at once, and what happens when too much is asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

import click

from strongroom.cli.output import F

if TYPE_CHECKING:
    from strongroom.engines.server import Needs
    from strongroom.engines.upstream import Kind
    from strongroom.services.models import Told

MAX_QUEUE = 1024

_OPTIONS = (
    click.option(
        "--set",
        "own",
        multiple=True,
        metavar="NAME.SETTING=VALUE",
        help="One model's own context, threads, slots, queue or adapters (of a server). Repeatable.",
    ),
    click.option(
        "--queue",
        type=click.IntRange(0, MAX_QUEUE),
        default=16,
        show_default=True,
        help="Requests that may wait for each model.",
    ),
    click.option(
        "--resident",
        type=click.IntRange(1),
        help="Models in memory at once, if fewer than all; they then take turns, and their data keys stay in memory.",
    ),
    click.option(
        "--engine-command",
        metavar="COMMAND",
        help="A server of OpenAI's API in place of llama.cpp, with {model}, {folder}, {port} and {name} in it.",
    ),
    click.option(
        "--engine-kind",
        type=click.Choice(["openai", "vllm"]),
        default="openai",
        show_default=True,
        help="What that server is; vllm gets a cache salt with each request.",
    ),
    click.option(
        "--engine-scratch",
        type=click.IntRange(16, 1 << 20),
        default=512,
        show_default=True,
        metavar="MIB",
        help="The size of that server's /tmp and /dev/shm, both in memory.",
    ),
    click.option("--engine-compiles", is_flag=True, help="That server may execute what it compiled into its /tmp."),
    click.option(
        "--engine-unsafe-gpus",
        is_flag=True,
        help="UNSAFE: that server has this machine's GPUs, which nothing has proved. Never in production.",
    ),
    click.option(
        "--restarts",
        type=click.IntRange(0, 100),
        default=3,
        show_default=True,
        help="New starts of a crashed engine in ten minutes; after more, its model stays down.",
    ),
    click.option(
        "--patience",
        type=click.FloatRange(1, 3600),
        default=60,
        show_default=True,
        help="Seconds after which a reader who takes nothing of an answer is cut off.",
    ),
)


def models_options(command: F) -> F:
    """Adds the options."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)


def models_of(
    references: Sequence[str],
    name: str,
    settings: Mapping[str, str | int],
    *,
    own: Sequence[str],
    queue: int,
    resident: int | None,
    command: str | None,
    kind: Kind,
    needs: Needs,
) -> Told:
    """What the options say. Raises `UsageError`."""
    from strongroom.services.models import Told, named, own_settings

    models, own_told = named(references, name), own_settings(own)
    return Told(
        models, settings, own_told, queue=queue, resident=resident, command=command or "", kind=kind, needs=needs
    )
