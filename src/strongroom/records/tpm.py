"""What travels about a TPM: a quote with what it needs to be read, and a verifier's own note that it knows an AK.

Knows: the shapes. Does not know: TPM structures, or whether any of it is true (`tee.tpm`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest
from strongroom.records.verdict import RootClass


@dataclass(frozen=True, slots=True)
class TpmQuote:
    """A quote as TPM2_Quote gives it (TPM 2.0 Part 3), its encoding being what `Evidence.quote` of kind `tpm` holds.

    `attest` is a TPMS_ATTEST, `signature` a TPMT_SIGNATURE, `ak` the attestation key as TPMT_PUBLIC or TPM2B_PUBLIC, or
    as bare SubjectPublicKeyInfo (DER) where nobody kept its attributes. `pcrs` are the values that the quote is about:
    bank (`sha256`) -> index ("0" to "23") -> lower-case hexadecimal. Who vouches for the key is not said here.
    """

    TYPE: ClassVar[str] = "strongroom/tpm-quote/v1"
    attest: bytes
    signature: bytes
    ak: bytes
    pcrs: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class TpmEnrolment:
    """A verifier's own note: this AK lives in the TPM of that endorsement key, proved by credential activation.

    `ak_name` is the AK's name in hexadecimal (TPM 2.0 Part 1, section 16), `endorsement` the SHA-256 of the EK's certificate,
    `root` of the root above it and `root_class` that root's class. `verifier` is the public key that signs the note
    (SubjectPublicKeyInfo, DER). It holds from `time` to `not_after` (Unix seconds). It travels in a signed envelope.
    """

    TYPE: ClassVar[str] = "strongroom/tpm-enrolment/v1"
    ak_name: str
    endorsement: Digest
    root: Digest
    root_class: RootClass
    verifier: bytes
    time: int
    not_after: int

    def __post_init__(self) -> None:
        if not self.time < self.not_after:
            raise ValueError("an enrolment that has ended before it began")
