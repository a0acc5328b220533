"""The statement counts only where it is measured.

Knows: which register vouches for which member of the workload statement. Does not know: how registers are quoted (`tee`).

    image           MRTD and RTMR0-2 equal the reference values of that image
    launch_spec     MRCONFIGID equals SHA-384 of the framed launch-spec digest
    workload, configuration, artifacts   the events that replay to RTMR3, written by an image that is itself a reference
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from strongroom.records.digest import Digest, frame
from strongroom.records.evidence import Evidence, events_of
from strongroom.records.policy import Policy, Reference, Requirement
from strongroom.records.verdict import Check, Status, judged, not_run
from strongroom.records.worker import Statement
from strongroom.tee.tdx import replay

LAUNCH_SPEC_TAG = "strongroom/launch-spec/v1"
REGISTERS = ("mrtd", "rtmr0", "rtmr1", "rtmr2")


def mrconfigid(launch_spec: Digest | None) -> str:
    """What MRCONFIGID must hold, as hexadecimal: SHA-384 of the framed digest, or zeros where nothing was specified."""
    if launch_spec is None:
        return "00" * 48
    return hashlib.sha384(frame(LAUNCH_SPEC_TAG, launch_spec.encode("ascii"))).hexdigest()


def check_statement(evidence: Evidence, claims: Mapping[str, str | int], policy: Policy) -> list[Check]:
    """Whether each member of the statement is vouched for by a register; where its register is not, it is not-run."""
    statement = evidence.statement
    image = _check_image(statement.image, claims, policy.references)
    checks = [
        image,
        judged("statement.launch_spec", claims.get("mrconfigid") == mrconfigid(statement.launch_spec), "MRCONFIGID"),
    ]
    if image.status is not Status.PASS:
        reason = "the image that wrote these events is not a reference"
        return [*checks, not_run("events.replay", reason), not_run("statement.events", reason)]
    replayed = replay(evidence.events).hex() == claims.get("rtmr3")
    checks.append(judged("events.replay", replayed, f"{len(evidence.events)} events, RTMR3"))
    checks.append(
        judged("statement.events", evidence.events == events_of(statement), "workload, configuration, artifacts")
        if replayed
        else not_run("statement.events", "the events do not replay to RTMR3")
    )
    return checks


def check_wanted(statement: Statement, policy: Policy) -> list[Check]:
    """Whether what is stated is what the policy wants."""
    return [
        _member("policy.workload", statement.workload, policy.workload),
        _member("policy.configuration", statement.configuration, policy.configuration),
        _member("policy.launch_spec", statement.launch_spec or "none", policy.launch_spec),
        _artifacts(statement.artifacts, policy.artifacts),
    ]


def _check_image(image: Digest, claims: Mapping[str, str | int], references: tuple[Reference, ...]) -> Check:
    candidates = [reference for reference in references if reference.image == image]
    if not candidates:
        return judged("statement.image", False, f"no reference values for image {image}")
    for reference in candidates:
        differing = [name for name in REGISTERS if getattr(reference, name) != claims.get(name)]
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
