"""The statement counts only where it is measured.

Knows: which register vouches for which member of the workload statement. Does not know: how registers are quoted (`tee`).

    image           the kind's registers equal the reference values of that image
    launch_spec     the kind's register of launch (MRCONFIGID, HOST_DATA) holds the hash of the framed digest
    workload, configuration, artifacts   the events that replay to the run-time register, written by an image that is
                    itself a reference; where a kind has no such register, what that image put into its bound statement
    opened later    events of artifacts behind those, in that register alone; no other event may follow, and none twice
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from strongroom.appraisal.kinds import Kind
from strongroom.records.digest import Digest, frame, is_digest
from strongroom.records.evidence import ARTIFACT, Event, Evidence, events_of
from strongroom.records.policy import Policy, Reference, Requirement
from strongroom.records.verdict import Check, Status, judged, not_run

LAUNCH_SPEC_TAG = "strongroom/launch-spec/v1"
Claims = Mapping[str, str | int]


def launch_register(launch_spec: Digest | None, algorithm: str = "sha384") -> str:
    """What a register of launch must hold, as hexadecimal: the hash of the framed digest, or zeros where none was given."""
    if launch_spec is None:
        return "00" * hashlib.new(algorithm).digest_size
    return hashlib.new(algorithm, frame(LAUNCH_SPEC_TAG, launch_spec.encode("ascii"))).hexdigest()


def replay(events: Iterable[Event], algorithm: str = "sha384") -> str:
    """What a run-time register holds after `events`, in their order, from zeros; as hexadecimal."""
    register = bytes(hashlib.new(algorithm).digest_size)
    for event in events:
        register = hashlib.new(algorithm, register + event.measured(algorithm)).digest()
    return register.hex()


def check_statement(
    evidence: Evidence, kind: Kind, claims: Claims, references: Iterable[Reference], *, bound: bool
) -> list[Check]:
    """Whether each member of the statement is vouched for by a register; where its register is not, it is not-run.

    `bound` says whether the hardware signed over this very statement.
    """
    image = _check_image(evidence.statement.image, kind, claims, references)
    checks = [image, _check_launch(evidence.statement.launch_spec, kind, claims)]
    if image.status is not Status.PASS:
        reason = "the image that wrote these events is not a reference"
        return [*checks, not_run("events.replay", reason), not_run("statement.events", reason)]
    return [*checks, *_check_events(evidence, kind, claims, bound=bound)]


def _check_launch(launch_spec: Digest | None, kind: Kind, claims: Claims) -> Check:
    if kind.launch_spec is None:
        reason = f"{kind.name} measures no launch specification"
        return judged("statement.launch_spec", launch_spec is None, reason)
    name, algorithm = kind.launch_spec
    return judged("statement.launch_spec", claims.get(name) == launch_register(launch_spec, algorithm), name)


def _check_events(evidence: Evidence, kind: Kind, claims: Claims, *, bound: bool) -> list[Check]:
    said = _says_what_is_stated(evidence, kind)
    what = f"workload, configuration, artifacts; opened later: {len(evidence.later)}"
    if kind.runtime is None:
        return [
            judged("events.replay", bound, f"{kind.name} has no run-time register; the measured image bound them"),
            judged("statement.events", said, what)
            if bound
            else not_run("statement.events", "the statement is not bound"),
        ]
    name = kind.runtime.claim
    replayed = replay(evidence.events, kind.runtime.algorithm) == claims.get(name)
    return [
        judged("events.replay", replayed, f"{len(evidence.events)} events, {name}"),
        judged("statement.events", said, what)
        if replayed
        else not_run("statement.events", f"the events do not replay to {name}"),
    ]


def _says_what_is_stated(evidence: Evidence, kind: Kind) -> bool:
    """The statement's events come first, whole and in their order; then nothing but further artifacts, each once.

    The statement itself may name one artifact twice: a worker may serve it under two names.
    """
    stated, later = events_of(evidence.statement), evidence.later
    if evidence.events[: len(stated)] != stated:
        return False
    if not later:
        return True
    artifacts = all(event.name == ARTIFACT and is_digest(event.value) for event in later)
    opened = {event.value for event in later} - set(evidence.statement.artifacts)
    return kind.runtime is not None and artifacts and len(opened) == len(later)


def check_wanted(evidence: Evidence, policy: Policy) -> list[Check]:
    """Whether what is stated is what the policy wants; it admits what is opened later as it admits what is opened first."""
    statement = evidence.statement
    return [
        _member("policy.workload", statement.workload, policy.workload),
        _member("policy.configuration", statement.configuration, policy.configuration),
        _member("policy.launch_spec", statement.launch_spec or "none", policy.launch_spec),
        _artifacts(evidence.artifacts, policy.artifacts),
    ]


def _check_image(image: Digest, kind: Kind, claims: Claims, references: Iterable[Reference]) -> Check:
    candidates = [found for found in references if (found.image, found.kind) == (image, kind.name)]
    if not candidates:
        return judged("statement.image", False, f"no reference values of {kind.name} for image {image}")
    differing: list[str] = []
    for reference in candidates:
        differing = [
            name
            for name in dict.fromkeys((*kind.registers, *reference.registers))
            if claims.get(name) not in reference.registers.get(name, ())
        ]
        if not differing:
            return judged("statement.image", True, image)
    return judged("statement.image", False, f"{', '.join(differing)} differ from the reference values of {image}")


def _member(identifier: str, value: str, wanted: Requirement) -> Check:
    return judged(identifier, wanted.admits(value), wanted.any or value)


def _artifacts(artifacts: tuple[Digest, ...], wanted: Requirement) -> Check:
    foreign = [artifact for artifact in artifacts if not wanted.admits(artifact)]
    return judged(
        "policy.artifacts",
        not foreign and (bool(artifacts) or wanted.any is not None),
        f"not admitted: {foreign[0]}" if foreign else f"{len(artifacts)} named",
    )
