"""Policies as files: TOML for people, a signed envelope for machines.

Knows: how a policy is written, read and signed. Does not know: how it is judged.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

from strongroom.appraisal.kinds import kind_of
from strongroom.appraisal.sections import SECTIONS
from strongroom.crypto.signatures import PublicKey, SigningKey, open_envelope, sign_envelope
from strongroom.errors import MalformedRecord
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.records.policy import (
    KINDS,
    CustodyPolicy,
    Policy,
    ProvenancePolicy,
    Reference,
    Requirement,
    WitnessPolicy,
)
from strongroom.records.verdict import Level

PAYLOAD_TYPE = "application/vnd.strongroom.policy.v1+json"
MAX_TOML = 256 * 1024


def from_toml(text: str) -> Policy:
    """Parse a policy as people write it. Raises `MalformedRecord`; every member is required."""
    if len(text) > MAX_TOML:
        raise MalformedRecord(f"a policy of {len(text)} characters exceeds the limit of {MAX_TOML}")
    try:
        members = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for numbers that Python will not read
        raise MalformedRecord(
            f"this policy is not TOML: {error}", remedy="Start from `strongroom policy new`."
        ) from None
    try:
        return codec.from_json(Policy, {"type": Policy.TYPE, **dict.fromkeys(KINDS), **members})
    except MalformedRecord as error:
        remedy = "Every member is required, and no other is known: `strongroom policy new` writes them all."
        raise MalformedRecord(error.message, detail=error.detail, remedy=remedy) from None


def sign_policy(policy: Policy, key: SigningKey) -> Envelope:
    """The policy in a DSSE envelope, signed by its owner."""
    return sign_envelope(PAYLOAD_TYPE, codec.encode(policy), key)


def open_policy(envelope: Envelope, owners: Sequence[PublicKey]) -> Policy:
    """The policy in an envelope that one of `owners` signed. Raises `SignatureInvalid` or `MalformedRecord`."""
    return codec.decode(Policy, open_envelope(envelope, PAYLOAD_TYPE, owners))


def to_toml(policy: Policy) -> str:
    """A policy as people write it; `from_toml` reads it back to the same record."""
    value = codec.to_json(policy)
    del value["type"]
    tables = {kind: members for kind in KINDS if (members := value.pop(kind)) is not None}
    references = value.pop("references") or None
    tables = {name: value.pop(name) for name in ("custody", "provenance", "witnesses")} | tables
    lines = [f"{name} = {_toml(member)}" for name, member in value.items()]
    if references is None:
        lines.append("references = []")
    for reference in references or ():
        lines += ["", "[[references]]", *(f"{name} = {_toml(member)}" for name, member in reference.items())]
    for table, members in tables.items():
        lines += ["", f"[{table}]", *(f"{name} = {_toml(member)}" for name, member in members.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(member) for member in value) + "]"
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def template(
    identifier: str,
    *,
    references: Sequence[Reference],
    artifacts: Sequence[str],
    simulated: bool,
    workload: str = "inference",
    kind: str = "tdx",
) -> Policy:
    """A policy to start from: strict where a value is known, and a reason wherever any value is admitted.

    `kind` is that of the evidence. `simulated` makes a policy for a simulated TEE; it then accepts nothing else.
    """
    reason = "not known yet: pin it as soon as it is"
    return Policy(
        id=identifier,
        version=1,
        levels=(Level.SIMULATED if simulated else kind_of(kind).level,),
        references=tuple(references),
        builders=(),
        revocation=Requirement(one_of=("checked",)),
        custody=CustodyPolicy(
            custodians=Requirement(any=reason),
            minimum=1,
            sites=Requirement(any=reason),
            jurisdictions=Requirement(any=reason),
        ),
        provenance=ProvenancePolicy(signers=Requirement(any=reason), builders=Requirement(any=reason)),
        witnesses=WitnessPolicy(keys=Requirement(any=reason), least=0),
        workload=Requirement(one_of=(workload,)),
        artifacts=Requirement(one_of=tuple(artifacts)),
        editions={},
        configuration=Requirement(any=reason),
        launch_spec=Requirement(any=reason),
        lease_seconds=300,
        **dict.fromkeys(KINDS) | {name: make() for name, make in SECTIONS[kind].items()},
    )
