"""Which models a worker is told to serve, and how: what is measured of it, and the engines made from it.

Knows: names, references, settings for all and for one, engines by kind. Does not know: the command line, evidence.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from strongroom.engines.nursery import Nursery
from strongroom.engines.process import EngineProcess, Profile
from strongroom.engines.server import NOTHING_MORE, Needs, ServerProcess
from strongroom.engines.upstream import Kind
from strongroom.errors import UsageError
from strongroom.workloads.inference.models import Engine, Model, Restarts

Settings = Mapping[str, str | int]

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._/-]{0,63})=(.+)", re.DOTALL)
_SETTING = re.compile(r"([A-Za-z0-9][A-Za-z0-9._/-]{0,63})\.([a-z_]{1,32})=(.*)", re.DOTALL)
_NUMBERS = {"context": (64, 1 << 20), "threads": (1, 1024), "slots": (1, 64), "queue": (0, 1024)}
"""Settings that one model may have of its own: least and most."""
_TEXTS = frozenset({"adapters"})


@dataclass(frozen=True, slots=True)
class Named:
    """One model: its name for clients and the reference of its artifact."""

    name: str
    reference: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker is told of its models. `shared` are the engine's settings for all (with `slots`), `own` those of one by name.

    `resident` is how many are in memory at once, None for all; `command` that of a server (`engines.server`) in place of llama.cpp,
    `kind` what it is, and `needs` what it has beyond what every server has.
    """

    models: tuple[Named, ...]
    shared: Settings
    own: Mapping[str, Settings] = field(default_factory=dict)
    queue: int = 16
    resident: int | None = None
    command: str = ""
    kind: Kind = "openai"
    needs: Needs = NOTHING_MORE

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise UsageError("two models of one name", remedy="Give each its own: NAME=REFERENCE.")
        strange = sorted(set(self.own) - set(names))
        if strange:
            raise UsageError(f"settings for {strange[0]!r}, which is not served", remedy="Name a model of this worker.")
        if not self.command and any("adapters" in settings for settings in self.own.values()):
            raise UsageError("llama.cpp has no adapters here", remedy="Name a server that has them (--engine-command).")
        if self.command and not _words(self.command):
            raise UsageError("a command without a program", remedy="Write it as for a shell.")
        if self.needs != NOTHING_MORE and not self.command:
            raise UsageError("llama.cpp has what it needs", remedy="Name a server (--engine-command) that needs more.")
        if self.command and self.kind != "vllm" and self.shared.get("cache_prompt"):
            raise UsageError(
                "this server cannot keep prefixes for each tenant apart",
                remedy="Leave --cache out, or serve with vLLM (--engine-kind vllm), which takes a salt with each request.",
            )
        if self.resident is not None and not 0 < self.resident <= len(names):
            raise UsageError(f"{self.resident} of {len(names)} models cannot be in memory at once")

    @property
    def references(self) -> list[str]:
        return [model.reference for model in self.models]

    def measured(self) -> dict[str, str | int]:
        """What of this belongs into the measured configuration: all but the length of queues, which no owner need mind.

        One model without settings of its own is told as one, under `name`.
        """
        told = dict(self.shared)
        if len(self.models) == 1 and not self.own:
            told["name"] = self.models[0].name
        else:
            told["models"] = ",".join(model.name for model in self.models)
            for name, settings in self.own.items():
                told |= {f"{name}.{key}": value for key, value in settings.items() if key != "queue"}
        if self.resident is not None and self.resident < len(self.models):
            told["resident"] = self.resident
        if self.command:
            told |= {"engine": "server", "command": self.command, "kind": self.kind, **self.needs.settings}
        return told

    def make(
        self, profile: Profile, nursery: Nursery, *, restarts: Restarts, told: Callable[[str], None]
    ) -> list[Model]:
        """The models, not yet prepared, with engines out of `nursery`."""
        made = []
        for model in self.models:
            settings = {**self.shared, **self.own.get(model.name, {}), "name": model.name}
            queue, listed = int(settings.pop("queue", self.queue)), str(settings.pop("adapters", ""))
            adapters = tuple(listed.split(",")) if listed else ()
            made.append(
                Model(
                    settings,
                    self._engine(profile, nursery, adapters),
                    slots=int(settings["slots"]),
                    queue=queue,
                    restarts=restarts,
                    adapters=adapters,
                    whole=bool(self.command),
                    told=told,
                )
            )
        return made

    def _engine(self, profile: Profile, nursery: Nursery, adapters: Sequence[str]) -> Callable[[], Engine]:
        if not self.command:
            return lambda: EngineProcess(profile=profile, spawn=nursery.child)
        words, kind, needs = _words(self.command), self.kind, self.needs
        return lambda: ServerProcess(
            words, profile=profile, kind=kind, adapters=adapters, needs=needs, spawn=nursery.child
        )


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        raise UsageError("a command whose quotes do not match", remedy="Write it as for a shell.") from None


def named(references: Sequence[str], single: str) -> tuple[Named, ...]:
    """`NAME=REFERENCE` for each; one alone may go without a name and is called `single`. Raises `UsageError`."""
    found = [_NAMED.fullmatch(reference) for reference in references]
    if len(references) == 1 and found[0] is None:
        return (Named(single, references[0]),)
    if not all(found):
        raise UsageError("of several models each needs a name", remedy="Write NAME=REFERENCE for each.")
    return tuple(Named(match[1], match[2]) for match in found if match is not None)


def own_settings(told: Sequence[str]) -> dict[str, dict[str, str | int]]:
    """`NAME.SETTING=VALUE` for each, by name. Raises `UsageError`."""
    own: dict[str, dict[str, str | int]] = {}
    for text in told:
        match = _SETTING.fullmatch(text)
        if match is None:
            raise UsageError(f"{text[:80]!r} is no setting of a model", remedy="Write NAME.SETTING=VALUE.")
        name, key, value = match.groups()
        own.setdefault(name, {})[key] = _value(key, value)
    return own


def _value(key: str, text: str) -> str | int:
    if key in _TEXTS:
        return text
    if key not in _NUMBERS:
        known = ", ".join([*_NUMBERS, *_TEXTS])
        raise UsageError(f"a model has no setting {key!r} of its own", remedy=f"There are: {known}.")
    least, most = _NUMBERS[key]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1  # noqa: PLR2004  # digits enough
    if not least <= number <= most:
        raise UsageError(f"{key} must be a whole number from {least} to {most}")
    return number
