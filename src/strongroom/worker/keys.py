"""The private keys that one worker makes inside its TEE and never lets out.

Knows: which key is for what. Does not know: evidence, brokers, requests. The keys live in this process only: engines are spawned
before they exist, so no fork ever copies them.
Not covered: `cryptography` holds private keys in memory of its own that Python cannot overwrite; they end with the process.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.crypto.hpke import ReleaseKey, generate_x25519
from strongroom.crypto.signatures import generate_ed25519
from strongroom.records.worker import Keyset

CHANNELS = ("ehbp/1",)
KEYSET_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True, repr=False)
class WorkerKeys:
    """`channel` opens requests, `release` opens grants, `receipt` signs receipts; `keyset` holds their public halves."""

    channel: X25519PrivateKey
    release: ReleaseKey
    receipt: Ed25519PrivateKey
    keyset: Keyset

    @classmethod
    def generate(cls, *, now: int) -> WorkerKeys:
        """Fresh keys, good for `KEYSET_SECONDS` from `now` (Unix seconds)."""
        channel, release, receipt = generate_x25519(), ReleaseKey.generate(), generate_ed25519()
        keyset = Keyset(
            channel=channel.public_key().public_bytes_raw(),
            release=release.public,
            receipt=receipt.public_key().public_bytes_raw(),
            tls=None,
            channels=CHANNELS,
            not_after=now + KEYSET_SECONDS,
        )
        return cls(channel, release, receipt, keyset)

    def __repr__(self) -> str:
        return f"WorkerKeys({self.keyset.digest})"
