"""The signed envelope (DSSE v1.0.2): a payload, what it is, and who signed it.

Knows: the shape and the pre-authentication encoding. Does not know: keys (`crypto.signatures`). Standard base64 with padding, as
DSSE says; both alphabets are read, one is written.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from strongroom.errors import MalformedRecord
from strongroom.records import codec

MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class Envelope:
    """`signatures` holds (keyid, signature) pairs; keyid is the signer's fingerprint, a hint and never proof."""

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def pre_authentication_encoding(self) -> bytes:
        """PAE(type, payload), the bytes that are signed (DSSE protocol.md)."""
        kind = self.payload_type.encode("utf-8")
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)

    def __to_json__(self) -> dict[str, Any]:
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [{"keyid": k, "sig": base64.b64encode(s).decode()} for k, s in self.signatures],
        }

    @classmethod
    def __from_json__(cls, value: Any, where: str) -> Envelope:
        if not isinstance(value, dict) or value.keys() != {"payloadType", "payload", "signatures"}:
            raise MalformedRecord(f"{where} is not a DSSE envelope")
        kind, payload, signatures = value["payloadType"], value["payload"], value["signatures"]
        if not isinstance(kind, str) or not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
            raise MalformedRecord(f"{where} is not a DSSE envelope")
        pairs = []
        for entry in signatures:
            if not isinstance(entry, dict) or not {"sig"} <= entry.keys() <= {"sig", "keyid"}:
                raise MalformedRecord(f"{where} has a malformed signature")
            if not isinstance(entry.get("keyid", ""), str):
                raise MalformedRecord(f"{where} has a malformed keyid")
            pairs.append((entry.get("keyid", ""), _base64(entry["sig"], where)))
        return cls(kind, _base64(payload, where), tuple(pairs))

    def to_bytes(self) -> bytes:
        return codec.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes | str) -> Envelope:
        return codec.decode(cls, data)


def _base64(text: Any, where: str) -> bytes:
    if not isinstance(text, str):
        raise MalformedRecord(f"{where} has a member that is not base64")
    plain = text.replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(plain, validate=True)
    except (ValueError, binascii.Error):
        raise MalformedRecord(f"{where} has a member that is not base64") from None
    if base64.b64encode(data).decode() != plain:
        raise MalformedRecord(f"{where} has a member whose base64 is not canonical")
    return data
