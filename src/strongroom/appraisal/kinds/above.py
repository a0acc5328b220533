"""Evidence of two parts, hardware and a vTPM above it: what every cloud's form of it shares.

Knows: how a record that holds both is read, and what such a kind asks of its parts. Does not know: how the two are tied
together, which is each cloud's own affair (`azure`, `google`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from strongroom.appraisal.kinds import tpm as tpm_kind
from strongroom.appraisal.kinds.kind import Judge, Kind, Register
from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom.records.verdict import Check, Level
from strongroom.tee.genuine import Genuine

MAX_BYTES = 64 * 1024
Claims = dict[str, str | int]
Record = TypeVar("Record")


def read_record(record: type[Record], quote: bytes, cloud: str) -> Record:
    """Evidence in its one spelling. Raises `MalformedEvidence`."""
    if len(quote) > MAX_BYTES:
        raise MalformedEvidence(f"evidence of {cloud} of {len(quote)} bytes exceeds the limit of {MAX_BYTES}")
    try:
        evidence = codec.decode(record, quote)
    except MalformedRecord as error:
        raise MalformedEvidence(f"this is no evidence of {cloud}: {error.message}") from None
    if codec.encode(evidence) != quote:
        raise MalformedEvidence(f"evidence of {cloud} that is not in its canonical form")
    return evidence


def both(
    name: str,
    beneath: Kind,
    *,
    registers: tuple[str, ...],
    runtime: Register | None,
    launch_spec: tuple[str, str] | None,
    judge: Judge,
    stated: Callable[[bytes], Claims],
    gather: Callable[[bytes, Pile], Collateral],
    besides: frozenset[str] = frozenset(),
) -> Kind:
    """A vTPM above hardware of the kind `beneath`; of the hardware `registers` are pinned.

    `besides` are checks of exposure that do not count here, because something between hardware and guest takes care.
    """

    def exposed(genuine: Genuine) -> list[Check]:
        found = [check for check in beneath.exposed(genuine) if check.id not in besides]
        return [*found, *tpm_kind.TPM.exposed(genuine)]

    return Kind(
        name=name,
        level=Level.CONFIDENTIAL,
        registers=(*registers, *tpm_kind.TPM.registers),
        runtime=runtime,
        launch_spec=launch_spec,
        machine=beneath.machine,
        judge=judge,
        stated=stated,
        gather=gather,
        wanted=lambda genuine, policy: [*beneath.wanted(genuine, policy), *tpm_kind.TPM.wanted(genuine, policy)],
        exposed=exposed,
    )
