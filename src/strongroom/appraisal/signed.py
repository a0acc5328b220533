"""What others sign for an appraisal: builders' reference values and provenance, custodians' lists of machines.

Knows: payload types, and that a signature is checked before a word is read. Does not know: whose word counts (the policy
says), or where the files come from.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.appraisal.provenance import Provenance
from strongroom.crypto.signatures import PublicKey, SigningKey, fingerprint, open_envelope, sign_envelope
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.reference import CustodyList, ReferenceValues

REFERENCES_TYPE = "application/vnd.strongroom.reference-values.v1+json"
CUSTODY_TYPE = "application/vnd.strongroom.custody.v1+json"


@dataclass(frozen=True, slots=True)
class Known:
    """What an appraiser has been given besides policy and collateral, each with the fingerprint of who signed it."""

    references: tuple[tuple[Digest, ReferenceValues], ...] = ()
    custody: tuple[tuple[Digest, CustodyList], ...] = ()
    provenance: tuple[tuple[Digest, Provenance], ...] = ()


NOTHING = Known()


def sign_references(values: ReferenceValues, key: SigningKey) -> Envelope:
    """Reference values in an envelope signed by their builder."""
    return sign_envelope(REFERENCES_TYPE, codec.encode(values), key)


def open_references(envelope: Envelope, key: PublicKey) -> tuple[Digest, ReferenceValues]:
    """Reference values that `key` signed. Raises `SignatureInvalid` or `MalformedRecord`."""
    return fingerprint(key), codec.decode(ReferenceValues, open_envelope(envelope, REFERENCES_TYPE, [key]))


def sign_custody(machines: CustodyList, key: SigningKey) -> Envelope:
    """A custody list in an envelope signed by its custodian."""
    return sign_envelope(CUSTODY_TYPE, codec.encode(machines), key)


def open_custody(envelope: Envelope, key: PublicKey) -> tuple[Digest, CustodyList]:
    """A custody list that `key` signed. Raises `SignatureInvalid` or `MalformedRecord`."""
    return fingerprint(key), codec.decode(CustodyList, open_envelope(envelope, CUSTODY_TYPE, [key]))
