"""What passes between a machine with a TPM and a broker that enrols its attestation key (AK).

Knows: the shapes. Does not know: TPM structures, whether any of it is true (`tee.tpm`), or who enrols (`release.enrolments`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import TpmCollateral
from strongroom.records.release import LogProof
from strongroom.records.verdict import RootClass


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """Asks to be enrolled: the certificate of the endorsement key (EK) and what stands above it, and both keys.

    `endorsement` is a chain (PEM, the EK's certificate first, the root last) with revocation lists, and no note; `ek` and
    `ak` are TPMT_PUBLIC or TPM2B_PUBLIC.
    """

    TYPE: ClassVar[str] = "strongroom/tpm-enrolment-request/v1"
    endorsement: TpmCollateral
    ek: bytes
    ak: bytes


@dataclass(frozen=True, slots=True)
class EnrolmentTicket:
    """A broker's own word on an enrolment that waits for its TPM, which it recognises without having stored it.

    `ak_name` and `endorsement` to `root_class` are as in the note; `nonce` (32 bytes) is used once, until `expires` (Unix
    seconds); `mac` is over the other members under the broker's secret.
    """

    TYPE: ClassVar[str] = "strongroom/tpm-enrolment-ticket/v1"
    ak_name: str
    endorsement: Digest
    root: Digest
    root_class: RootClass
    nonce: bytes
    expires: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class EnrolmentChallenge:
    """A credential that only that TPM opens, and only if it holds that AK: TPMS_ID_OBJECT and the encrypted seed."""

    TYPE: ClassVar[str] = "strongroom/tpm-enrolment-challenge/v1"
    ticket: EnrolmentTicket
    blob: bytes
    seed: bytes


@dataclass(frozen=True, slots=True)
class EnrolmentAnswer:
    """The ticket as it came, and the secret that the TPM found in the credential."""

    TYPE: ClassVar[str] = "strongroom/tpm-enrolment-answer/v1"
    ticket: EnrolmentTicket
    secret: bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The signed note (`TpmEnrolment`), and the proof that its digest is in the broker's log."""

    TYPE: ClassVar[str] = "strongroom/tpm-enrolled/v1"
    note: Envelope
    proof: LogProof
