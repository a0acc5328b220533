"""The private keys that one worker makes inside its TEE and never lets out.

Knows: which key is for what. Does not know: evidence, brokers, requests. The keys live in this process only: engines are spawned
before they exist, so no fork ever copies them.
Not covered: `cryptography` holds private keys in memory of its own that Python cannot overwrite; they end with the process.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.channel.ohttp import VERSION as OHTTP_VERSION
from strongroom.channel.pinning import TlsKey
from strongroom.crypto.hpke import ReleaseKey, generate_x25519
from strongroom.crypto.signatures import generate_ed25519
from strongroom.records.worker import CHANNEL_V2, Keyset

CHANNELS = (CHANNEL_V2, "ehbp/1", OHTTP_VERSION)
"""Versions of the sealed channel, best first; the last through a relay."""
KEYSET_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True, repr=False)
class WorkerKeys:
    """`channel` and `channel_v2` open requests, `release` opens grants, `receipt` signs receipts; `keyset` has the public halves.

    `tls` is None where the worker speaks no TLS.
    """

    channel: X25519PrivateKey
    channel_v2: ReleaseKey
    release: ReleaseKey
    receipt: Ed25519PrivateKey
    tls: TlsKey | None
    keyset: Keyset

    @classmethod
    def generate(cls, *, now: int, tls: bool = False) -> WorkerKeys:
        """Fresh keys, good for `KEYSET_SECONDS` from `now` (Unix seconds); `tls` makes one for TLS too."""
        not_after = now + KEYSET_SECONDS
        tls_key = TlsKey.generate(now=now, not_after=not_after) if tls else None
        channel, channel_v2 = generate_x25519(), ReleaseKey.generate()
        release, receipt = ReleaseKey.generate(), generate_ed25519()
        keyset = Keyset(
            channel=channel.public_key().public_bytes_raw(),
            release=release.public,
            receipt=receipt.public_key().public_bytes_raw(),
            tls=tls_key.digest if tls_key is not None else None,
            channels=CHANNELS,
            not_after=not_after,
            channel_v2=channel_v2.public,
        )
        return cls(channel, channel_v2, release, receipt, tls_key, keyset)

    def __repr__(self) -> str:
        return f"WorkerKeys({self.keyset.digest})"
