"""Prove: quotes over a nonce, a purpose, this worker's keys and its statement.

Knows: the order measure-then-prove. Does not know: who asks, or how the device works (`tee.*.collect`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from strongroom.records import binding
from strongroom.records.evidence import Collateral, Event, Evidence, EvidenceBundle, events_of
from strongroom.records.worker import Keyset, Statement

RUNTIME_REGISTER = 3


class Device(Protocol):
    """A TEE as the kernel offers it."""

    def quote(self, report_data: bytes) -> bytes:
        """A quote over 64 bytes. Raises `DeviceUnavailable`."""
        ...

    def extend(self, register: int, measurement: bytes) -> None:
        """Extend a run-time register by 48 bytes. Raises `DeviceUnavailable`."""
        ...


class Attester:
    """One worker's proofs. Making it measures the statement into the run-time register: do so once, before any proof."""

    def __init__(
        self, device: Device, collateral: Callable[[], Collateral], *, kind: str, keyset: Keyset, statement: Statement
    ) -> None:
        self._device, self._collateral, self._kind = device, collateral, kind
        self._keyset, self._statement = keyset, statement
        self._lock = threading.Lock()  # a report entry of the kernel serves one request at a time
        self._events: tuple[Event, ...] = events_of(statement)
        for event in self._events:
            device.extend(RUNTIME_REGISTER, event.measurement)

    @property
    def statement(self) -> Statement:
        return self._statement

    def prove(self, nonce: bytes, purpose: str) -> EvidenceBundle:
        """Fresh evidence for `nonce` (32 bytes) and `purpose`, with collateral. Raises `DeviceUnavailable`."""
        report_data = binding.report_data(
            self._kind,
            nonce=nonce,
            keyset=self._keyset.digest,
            statement=self._statement.digest,
            devices=None,
            purpose=purpose,
        )
        with self._lock:
            quote = self._device.quote(report_data)
        evidence = Evidence(self._kind, quote, self._events, nonce, purpose, self._keyset, self._statement)
        return EvidenceBundle(evidence, self._collateral())
