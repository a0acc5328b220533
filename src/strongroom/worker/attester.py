"""Prove: quotes over a nonce, a purpose, this worker's keys and its statement.

Knows: the order measure-then-prove. Does not know: who asks, or how the device works (`tee.*.collect`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from strongroom.appraisal.kinds import kind_of
from strongroom.errors import UsageError
from strongroom.records import binding
from strongroom.records.digest import Digest
from strongroom.records.evidence import ARTIFACT, Collateral, Event, Evidence, EvidenceBundle, events_of
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
    """One worker's proofs. Making it measures the statement into the run-time register: do so once, before any proof.

    May be shared by threads.
    """

    def __init__(
        self, device: Device, collateral: Callable[[], Collateral], *, kind: str, keyset: Keyset, statement: Statement
    ) -> None:
        self._device, self._collateral, self._kind = device, collateral, kind
        self._keyset, self._statement = keyset, statement
        self._log = device.log()
        self._lock = threading.Lock()  # a report entry of the kernel serves one request at a time
        self._events: tuple[Event, ...] = events_of(statement)
        self._register = register = kind_of(kind).runtime
        if register is not None:  # else the measured image binds what it says, and nothing can be added later
            for event in self._events:
                device.extend(register.index, event.measured(register.algorithm))

    @property
    def statement(self) -> Statement:
        return self._statement

    def measure(self, event: Event) -> tuple[Digest, ...]:
        """Extend what is opened later, before its key is asked for; all artifacts that evidence names from now on.

        What was measured before is not measured again. A device that fails here may have extended its register or not: later
        evidence then does not replay, and is refused. Raises `DeviceUnavailable`, and `UsageError` where there is no register.
        """
        if self._register is None:
            raise UsageError(
                f"evidence of kind {self._kind} has no register for what is opened later",
                remedy="Start another worker.",
            )
        with self._lock:
            if event not in self._events:
                self._device.extend(self._register.index, event.measured(self._register.algorithm))
                self._events = (*self._events, event)
            return tuple(Digest(found.value) for found in self._events if found.name == ARTIFACT)

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
            quote, events = self._device.quote(report_data), self._events
        evidence = Evidence(self._kind, quote, self._log, events, nonce, purpose, self._keyset, self._statement)
        return EvidenceBundle(evidence, self._collateral())
