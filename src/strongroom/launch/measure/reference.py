"""Reference values of a launch: what is expected, as a policy takes it.

Knows: which registers of a kind must be pinned. Does not know: who signs them (`appraisal.signed`).
"""

from __future__ import annotations

from strongroom.appraisal.kinds import kind_of
from strongroom.errors import NotMeasurable
from strongroom.launch.measure.expected import Expected
from strongroom.records.launch import LaunchSpec
from strongroom.records.reference import Reference


def reference_of(spec: LaunchSpec, expected: Expected) -> Reference:
    """Reference values of this image. Raises `NotMeasurable` if a register that must be pinned is not known."""
    kind = kind_of(expected.kind)
    missing = [name for name in kind.registers if name not in expected.registers]
    if missing:
        raise NotMeasurable(
            f"{', '.join(missing)} must be pinned, and cannot be computed",
            remedy="Observe it once on a machine of yours, and add it to `observed` of the firmware.",
        )
    return Reference(spec.image, kind.name, {name: (expected.registers[name],) for name in kind.registers})
