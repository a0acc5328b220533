"""What a policy asks of Arm CCA."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.records.policy.requirement import Requirement


@dataclass(frozen=True, slots=True)
class CcaPolicy:
    """What is wanted of a CCA token; identifiers, `config` and measurements are lower-case hexadecimal.

    `lifecycle` is that of the platform: `secured`, or `open` (being made, under debug, retired). `components` are the
    platform's pieces of firmware, each written `type:measurement:signer`. A list admits several measurements of one
    type; a piece of a type that it does not name is refused, and so is a type that it names and the platform lacks.
    `realm_hash` is the hash of the realm's measurements (`sha-512`). `rem1` to `rem3` are registers that nothing here
    extends, so normally zeros.
    """

    lifecycle: Requirement
    implementation_id: Requirement
    instance_id: Requirement
    config: Requirement
    components: Requirement
    realm_hash: Requirement
    rem1: Requirement
    rem2: Requirement
    rem3: Requirement
