"""Collateral of a machine whose attestation key no maker certified: the note of its enrolment at a broker, and its renewal.

Knows: when a note is asked for and renewed. Does not know: what passes (`release.enrolment_client`), or whose note counts (the
verifier's anchors say). A note is renewed at half of its life; where that fails the old one is shown as long as it holds, and
the broker is asked again after a while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from strongroom.appraisal.gather import gather_tpm
from strongroom.appraisal.pile import Pile
from strongroom.crypto import x509
from strongroom.errors import DeviceUnavailable, StrongroomError
from strongroom.records.enrolment import EnrolmentRequest
from strongroom.records.evidence import Collateral, TpmCollateral
from strongroom.records.tpm import TpmEnrolment
from strongroom.release.client import BrokerClient
from strongroom.release.enrolment_client import enrol_at
from strongroom.tee.tpm import Collector

RETRY_SECONDS = 60


@dataclass(slots=True)
class _Kept:
    note: TpmEnrolment
    collateral: Collateral
    renew: int


@dataclass(slots=True)
class Enrolling:
    """A source of collateral for `device`, which enrols it with `broker` at the first call. May be shared by threads.

    `above` gives the certificates above the endorsement key's, root included, and revocation lists; `clock` Unix seconds.
    """

    device: Collector
    broker: BrokerClient
    above: Callable[[], Pile]
    clock: Callable[[], int]
    _kept: _Kept | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> Collateral:
        """Collateral with a note that holds. Raises `DeviceUnavailable`, and what the broker raised."""
        with self._lock:
            now, kept = self.clock(), self._kept
            if kept is not None and now < kept.renew:
                return kept.collateral
            try:
                self._kept = kept = self._enrolled()
            except StrongroomError:
                if kept is None or now > kept.note.not_after:
                    raise
                kept.renew = now + RETRY_SECONDS
            return kept.collateral

    def _enrolled(self) -> _Kept:
        algorithm, certificate, ek, ak = self._endorsement()
        leaf, pile = x509.load_certificate(certificate), self.above()
        endorsement = gather_tpm(pile, leaf, "") or TpmCollateral("", ())
        envelope, note = enrol_at(
            self.broker,
            EnrolmentRequest(endorsement, ek, ak),
            lambda credential: self.device.activate(credential, algorithm),
        )
        found = Collateral(tpm=TpmCollateral("", (), envelope.to_bytes()))
        return _Kept(note, found, note.time + (note.not_after - note.time) // 2)

    def _endorsement(self) -> tuple[str, bytes, bytes, bytes]:
        """The first endorsement key that is certified: its algorithm, the certificate, EK and AK."""
        for algorithm in ("rsa", "ecc"):
            certificate, ek, ak = self.device.keys(algorithm)
            if certificate:
                return algorithm, certificate, ek, ak
        raise DeviceUnavailable(
            "this TPM holds no certificate of an endorsement key", remedy="Nobody can enrol it; use another machine."
        )
