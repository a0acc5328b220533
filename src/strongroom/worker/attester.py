"""Prove: quotes over a nonce, a purpose, this worker's keys and its statement.

Knows: the order measure-then-prove. Does not know: who asks, or how the device works (`tee.*.collect`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from strongroom.appraisal.kinds import kind_of
from strongroom.records import binding
from strongroom.records.evidence import Collateral, Event, Evidence, EvidenceBundle, events_of
from strongroom.records.worker import Keyset, Statement


class Device(Protocol):
    """A TEE as the kernel offers it."""

    def quote(self, report_data: bytes) -> bytes:
        """Evidence over what `records.binding` makes (64 bytes, or 32 for a TPM). Raises `DeviceUnavailable`."""
        ...

    def extend(self, register: int, measurement: bytes) -> None:
        """Extend a run-time register by a digest of its hash. Raises `DeviceUnavailable`."""
        ...

    def log(self) -> bytes:
        """The firmware's event log as the machine gives it, empty where it gives none. Raises `DeviceUnavailable`."""
        ...


class Attester:
    """One worker's proofs. Making it measures the statement into the run-time register: do so once, before any proof."""

    def __init__(
        self, device: Device, collateral: Callable[[], Collateral], *, kind: str, keyset: Keyset, statement: Statement
    ) -> None:
        self._device, self._collateral, self._kind = device, collateral, kind
        self._keyset, self._statement = keyset, statement
        self._log = device.log()
        self._lock = threading.Lock()  # a report entry of the kernel serves one request at a time
        self._events: tuple[Event, ...] = events_of(statement)
        register = kind_of(kind).runtime
        if register is not None:  # else the measured image binds what it says, and nothing can be added later
            for event in self._events:
                device.extend(register.index, event.measured(register.algorithm))

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
        evidence = Evidence(self._kind, quote, self._log, self._events, nonce, purpose, self._keyset, self._statement)
        return EvidenceBundle(evidence, self._collateral())
