"""A confidential VM of Google as one device: its hardware signs which key and which quote of its vTPM it means.

Knows: the order (vTPM first, then the hardware over both), and where run-time events go. Does not know: either device.
Not covered: an AK of one's own, which nobody but an enrolment vouches for; that the AK that Google certified is asked for again
at each quote costs a key generation, which vTPMs do in milliseconds.
"""

from __future__ import annotations

from strongroom.errors import DeviceUnavailable, MalformedEvidence
from strongroom.records import codec
from strongroom.records.google import GoogleEvidence, hardware_data
from strongroom.records.tpm import TpmQuote
from strongroom.tee import tpm
from strongroom.worker.attester import Device


class GoogleCollector:
    """Hardware and the vTPM of one VM. One call at a time; share it under a lock."""

    def __init__(self, hardware: Device, vtpm: tpm.Collector, *, runtime: str) -> None:
        """`vtpm` uses a key that Google certified; `runtime` is the register of events: the `hardware`'s, or the `vtpm`'s."""
        self._hardware, self._vtpm = hardware, vtpm
        self._runtime: Device = {"hardware": hardware, "vtpm": vtpm}[runtime]

    def quote(self, qualifying: bytes) -> bytes:
        """Evidence over `qualifying` (at most 64 bytes): the record of kinds `gce-snp` and `gce-tdx`.

        Raises `DeviceUnavailable`.
        """
        found = codec.decode(TpmQuote, self._vtpm.quote(qualifying))
        try:
            name = tpm.read_quote(found).ak.name
        except MalformedEvidence as error:
            raise DeviceUnavailable(f"the vTPM's quote does not parse: {error.message}") from None
        hardware = self._hardware.quote(hardware_data(name, qualifying))
        return codec.encode(GoogleEvidence(hardware, self._vtpm.ak_certificate(), found))

    def extend(self, register: int, measurement: bytes) -> None:
        """Extend the run-time register. Raises `DeviceUnavailable`."""
        self._runtime.extend(register, measurement)

    def log(self) -> bytes:
        """The firmware's log as the vTPM's registers have it. Raises `DeviceUnavailable`."""
        return self._vtpm.log()
