"""The binding: how a quote is tied to a nonce, a keyset, a statement and a purpose. One file, one table.

Preimage P = `strongroom/binding/v1` framed with the canonical JSON of {nonce, keyset_digest, statement_digest,
device_evidence_digest, purpose}. The kind of evidence, never the size of its field, chooses the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from strongroom.errors import MalformedEvidence
from strongroom.records import codec
from strongroom.records.digest import Digest, frame

TAG = "strongroom/binding/v1"
NONCE_BYTES = 32

_SHA256: Callable[[bytes], bytes] = lambda data: hashlib.sha256(data).digest()  # noqa: E731 (a table of one-liners)
_SHA512: Callable[[bytes], bytes] = lambda data: hashlib.sha512(data).digest()  # noqa: E731
TABLE: dict[str, Callable[[bytes], bytes]] = {
    "tdx": _SHA512,  # REPORTDATA
    "sgx": _SHA512,  # REPORTDATA
    "snp": _SHA512,  # REPORT_DATA
    "cca": _SHA512,  # realm challenge
    "nitro": _SHA512,  # user_data; the nonce stands apart
    "tpm": _SHA256,  # qualifyingData
    "az-snp": _SHA256,  # qualifyingData of the vTPM's quote
    "az-tdx": _SHA256,
    "gce-snp": _SHA256,  # the same; the hardware binds the quote (`records.google`)
    "gce-tdx": _SHA256,
}
"""Kind -> the bytes that what it binds must equal."""


def preimage(*, nonce: bytes, keyset: Digest, statement: Digest, devices: Digest | None, purpose: str) -> bytes:
    """P, as in the module's head. `devices` is None where no device is part of the evidence."""
    if len(nonce) != NONCE_BYTES:
        raise MalformedEvidence(f"a nonce of {len(nonce)} bytes where {NONCE_BYTES} are needed")
    members = {
        "nonce": nonce,
        "keyset_digest": keyset,
        "statement_digest": statement,
        "device_evidence_digest": devices,
        "purpose": purpose,
    }
    return frame(TAG, codec.encode(members))


def report_data(kind: str, **members: object) -> bytes:
    """The bytes (64, or 32 of a TPM) that evidence of `kind` must carry for these `members` (see `preimage`)."""
    rule = TABLE.get(kind)
    if rule is None:
        raise MalformedEvidence(f"there is no binding rule for evidence of kind {kind!r}")
    return rule(preimage(**members))  # type: ignore[arg-type]
