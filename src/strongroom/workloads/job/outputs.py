"""What may leave a worker of what a job made: judged, then sealed to the job's recipients, straight from memory.

Knows: bounds, and that a hostile job chooses its files' names. Does not know: how the job ran, or where sealed things lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from strongroom.crypto.signatures import SigningKey
from strongroom.errors import UsageError
from strongroom.records.artifact import ArtifactKind
from strongroom.records.job import JobSpec
from strongroom.sealed.registries.port import Registry
from strongroom.sealed.seal import SealedArtifact, seal_files
from strongroom.sealed.source import PlainFile, described
from strongroom.sealed.wrapping import wrap_to

PAD_BYTES = 4096
"""Sizes of outputs are rounded up to multiples of this before anybody sees them."""

Outcome = Literal["complete", "failed", "cut"]
OpenFiles = Sequence[tuple[str, int]]
"""Open descriptors by the paths that they are to have; nobody writes to them any more."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, and after how many seconds; `reason` is empty if it ended well."""

    outcome: Outcome
    reason: str
    seconds: int


def judge(ending: Ending, streams: OpenFiles, outputs: OpenFiles, *, limit: int) -> tuple[Ending, list[PlainFile]]:
    """The ending, now that the outputs are seen, and what is sealed of them: at most `limit` bytes.

    All files of a job that ended well; of one that failed its standard streams; of one that was cut short, nothing.
    """
    if ending.outcome == "cut":
        return ending, []
    if ending.outcome == "complete":
        try:
            return ending, _bounded([*streams, *outputs], limit)
        except UsageError as error:
            ending = replace(ending, outcome="failed", reason=error.message)
    try:
        return ending, _bounded(streams, limit)
    except UsageError:
        return ending, []


def seal_outputs(
    files: Sequence[PlainFile], spec: JobSpec, registry: Registry, *, tag: str, signer: SigningKey
) -> SealedArtifact | None:
    """Seal the files to the recipients of the job; None if there are none. Raises `StoreUnavailable`, `FileUnreadable`."""
    if not files:
        return None
    return seal_files(
        files,
        registry,
        name=spec.name,
        kind=ArtifactKind.OUTPUT,
        wrap=wrap_to(spec.recipients),
        signer=signer,
        tag=tag,
        pad_to=PAD_BYTES,
    )


def _bounded(files: OpenFiles, limit: int) -> list[PlainFile]:
    """The files, if one artifact can hold them within `limit` bytes. Raises `UsageError`."""
    found = [described(path, descriptor) for path, descriptor in files]
    paths = {file.path for file in found}
    folders = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"}
    if len(paths) != len(found) or paths & folders:
        raise UsageError("two of its outputs have one path")
    if sum(file.size for file in found) > limit:
        raise UsageError(f"it made more than {limit} bytes")
    return found
