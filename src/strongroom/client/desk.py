"""What both clients share: trust, the verified worker, what is kept of answers. No I/O.

Knows: what a user holds before any worker is met, and when an answer counts. Does not know: connections (`client.client`).
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from strongroom.appraisal.gather import read_anchors, read_enroller
from strongroom.appraisal.policies import from_toml
from strongroom.appraisal.signed import NOTHING, Known
from strongroom.channel.client import Exchange
from strongroom.channel.credential import PLACEHOLDER
from strongroom.channel.exchange_v2 import peer_of
from strongroom.channel.ohttp import VERSION as OHTTP_VERSION
from strongroom.channel.relayed import Relay
from strongroom.client.fetching import Asked
from strongroom.client.replicas import Replicas
from strongroom.client.verification import Trust, Verification, verify_worker
from strongroom.client.wallet import Wallet
from strongroom.client.way import way_to
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    FileUnreadable,
    ReceiptInvalid,
    UsageError,
)
from strongroom.receipts.receipt import ReceiptDocument, SealedReceipt, verify_document
from strongroom.records import codec
from strongroom.records.digest import Digest, is_digest
from strongroom.records.policy import Policy
from strongroom.records.session import EVIDENCE_PATH, EvidenceRequest, WorkerProof
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor

CLEAR_PATHS = frozenset({"/v1/models", "/v1/models/", "/healthz"})
"""Paths whose requests carry nothing and whose answers are not trusted."""

NONCE_BYTES = 32
KEPT_RECEIPTS = 1024


PLAIN = {"accept-encoding": "identity"}
PLAIN_JSON = {"content-type": "application/json", **PLAIN}


class Desk:
    """What both clients share: trust, the verified worker, receipts. No I/O."""

    def __init__(
        self,
        url: str,
        *,
        policy: Policy | str | Path,
        anchor: str | Path | None = None,
        enrollers: Iterable[str | Path] = (),
        broker: str | None = None,
        accept_simulated: bool = False,
        known: Known = NOTHING,
        relay: str | None = None,
        credits: str | Path | None = None,  # noqa: A002 (the word for it)
        api_key: str | None = None,
        ca: str | Path | None = None,
        on_receipt: Callable[[ReceiptDocument], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """What a user holds before any worker is met.

        `url` of the worker or of what stands before it; `policy` as a record or a TOML file of your own; `anchor` the PEM file
        of an installation root (simulated TEEs); `enrollers` the public keys (PEM files) of who enrols TPMs; `broker` the
        fingerprint of the broker that must have released the keys.
        `known` are signed reference values, custody lists and provenance (`appraisal.signed`).
        `relay` is an oblivious relay before the worker: everything goes through it, the question for evidence too.
        `credits` is a wallet (`client.wallet`): each request takes one credit out of it.
        `api_key` is an API key or token for a worker that has tenants; it travels inside the seal alone.
        `ca` is a PEM file of certificate authorities for TLS whose key no evidence names; a proxy is taken from the environment
        (HTTPS_PROXY, NO_PROXY; see `client.way`).
        `asked` are the newest requests that were sent, the last one at its end (see `Client.receipt_of`).
        `on_receipt` is given each answer's receipt document once it was checked, before the answer's end.
        """
        self.url = url.rstrip("/")
        self.relay = relay.rstrip("/") if relay is not None else None
        for address in (self.url, *((self.relay,) if self.relay is not None else ())):
            if not _is_address(address):
                remedy = "Give an address such as http://127.0.0.1:8443."
                raise UsageError(f"{address!r} is not an http address", remedy=remedy)
        self.way = way_to(self.relay or self.url, ca=ca)
        anchors: tuple[TrustAnchor, ...] = (*VENDOR_ANCHORS, *(read_enroller(_read(path)) for path in enrollers))
        if anchor is not None:
            anchors = (*anchors, *read_anchors(_read(anchor)))
        self.wallet = Wallet(credits) if credits is not None else None
        self.trust = Trust(
            policy=policy if isinstance(policy, Policy) else from_toml(_read(policy).decode("utf-8", "replace")),
            anchors=anchors,
            broker=_digest(broker) if broker is not None else None,
            accept_simulated=accept_simulated,
            known=known,
        )
        self.verification: Verification | None = None
        self.replicas = Replicas()
        self.receipts: deque[ReceiptDocument] = deque(maxlen=KEPT_RECEIPTS)
        self._api_key = api_key
        self.asked: deque[Asked] = deque(maxlen=KEPT_RECEIPTS)
        self._on_receipt = on_receipt
        self._clock = clock

    @property
    def last_receipt(self) -> ReceiptDocument:
        """The receipt of the newest answer, with all that is needed to check it offline."""
        if not self.receipts:
            raise UsageError("there is no receipt yet", remedy="Ask something first.")
        return self.receipts[-1]

    def _key(self, options: dict[str, Any]) -> str:
        """The key for an SDK, which insists on one: what it was given, our own, or the one that is nobody's."""
        return str(options.pop("api_key", None) or self._api_key or PLACEHOLDER)

    def _headers(self) -> dict[str, str]:
        """Of a chat completion of our own."""
        headers = {"content-type": "application/json"}
        return headers if self._api_key is None else headers | {"authorization": f"Bearer {self._api_key}"}

    def _question(self, keyset: Digest | None) -> tuple[bytes, httpx2.Request]:
        """A new nonce and the request that carries it, to the worker with `keyset` where a fleet has several."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        content = codec.encode(EvidenceRequest(nonce))
        headers = PLAIN_JSON | (self.replicas.address(keyset) if self.relay is None else {})
        return nonce, httpx2.Request("POST", (self.relay or self.url) + EVIDENCE_PATH, content=content, headers=headers)

    def _judge(self, answer: bytes, nonce: bytes, keyset: Digest | None) -> Verification:
        proof = codec.decode(WorkerProof, answer)
        found = verify_worker(proof, self.trust, nonce=nonce, now=int(self._clock()))
        if keyset is not None and found.keyset.digest != keyset:
            raise ChannelKeyMismatch("another worker than the one that was asked gave evidence")
        return found

    def _admit(self, found: Verification, pin: Callable[[Digest | None], None]) -> Verification:
        """Speak to a verified worker from now on, once the connection that its evidence came over is its own."""
        pin(found.keyset.tls)
        self.verification = found
        self.replicas.keep(found)
        return found

    def turn_to(self, keyset: Digest) -> Verification | None:
        """Speak from now on to a worker that was verified before; None where it has to prove itself."""
        found = self.replicas.verified(keyset, self._clock())
        self.verification = found or self.verification
        return found

    def drop(self, found: Verification) -> None:
        """This worker's keys are no more."""
        self.replicas.drop(found.keyset.digest)
        if self.verification is found:
            self.verification = None

    def _current(self) -> Verification | None:
        """The verification, unless the lease or the keyset behind it has ended."""
        found = self.verification
        return found if found is not None and self._clock() < found.ends else None

    def _seals_headers(self, verification: Verification) -> bool:
        """Whether a key for the receipt can go along: version 1 has no place for it."""
        return self.relay is not None or peer_of(verification.keyset) is not None

    def _way(self, relay: str, verification: Verification) -> Relay:
        """The way through the relay. Raises `ChannelRefused` where the worker's keyset does not know it."""
        if OHTTP_VERSION not in verification.keyset.channels:
            raise ChannelRefused(
                f"the worker does not speak {OHTTP_VERSION}", remedy="Ask it without a relay, or ask another worker."
            )
        return Relay(relay, verification.keyset.channel, partial(self._keep, verification))

    def _keep(self, verification: Verification, exchange: Exchange) -> None:
        """Check the receipt of an answer against what was sent and received; only then is the answer complete."""
        document = ReceiptDocument(
            receipt=codec.decode(SealedReceipt, exchange.sealed_receipt),
            request_sha256=exchange.request_sha256,
            response_sha256=exchange.response_sha256,
            bundle=verification.bundle,
            release=verification.release,
        )
        receipt = verify_document(document)
        if receipt.artifacts != verification.bundle.evidence.artifacts:
            self.drop(verification)  # the next request begins with a fresh one, which says what is open there now
            raise ReceiptInvalid(
                "this receipt names other artifacts than the evidence",
                detail="artifacts",
                remedy="Verify the worker again: something was opened there since, or the receipt is another's.",
            )
        self.receipts.append(document)
        if self._on_receipt is not None:
            self._on_receipt(document)
        if receipt.outcome != "complete":
            raise ReceiptInvalid(f"this answer was {receipt.outcome}, not complete", detail="outcome")


def _is_address(url: str) -> bool:
    try:
        found = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return found.scheme in {"http", "https"} and bool(found.host)


def _digest(text: str) -> Digest:
    if not is_digest(text):
        raise UsageError("a broker's fingerprint is sha256: and 64 hexadecimal digits")
    return Digest(text)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
