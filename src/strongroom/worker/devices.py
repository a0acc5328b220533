"""The TEE of this machine, whichever it is: what is looked for, in which order.

Knows: that each kind says itself whether it is there. Does not know: any device. A guest of a TEE may have a vTPM as well,
which proves less: it is looked for last. That Google's vTPM and hardware be asked together is for whoever starts the worker
to say: it is never guessed. There is no fallback: a device that is there and does not answer is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from strongroom.errors import DeviceUnavailable, UsageError
from strongroom.tee import cca, nitro, snp, tdx, tpm
from strongroom.worker.attester import Device
from strongroom.worker.google import GoogleCollector

GOOGLE_AK = "google-ecc"


def _google_snp(root: Path) -> Device:
    return GoogleCollector(snp.Collector(root), tpm.Collector(root, ak=GOOGLE_AK), runtime="vtpm")


def _google_tdx(root: Path) -> Device:
    return GoogleCollector(tdx.Collector(root), tpm.Collector(root, ak=GOOGLE_AK), runtime="hardware")


def _with_vtpm(hardware: Callable[[Path], str | None], name: str) -> Callable[[Path], str | None]:
    return lambda root: name if hardware(root) is not None and tpm.detect(root) is not None else None


COLLECTORS: Mapping[str, tuple[Callable[[Path], str | None], Callable[[Path], Device]]] = {
    "tdx": (tdx.detect, tdx.Collector),
    "snp": (snp.detect, snp.Collector),
    "cca": (cca.detect, cca.Collector),
    "nitro": (nitro.detect, nitro.Collector),
    "tpm": (tpm.detect, tpm.Collector),
    "gce-snp": (_with_vtpm(snp.detect, "gce-snp"), _google_snp),
    "gce-tdx": (_with_vtpm(tdx.detect, "gce-tdx"), _google_tdx),
}
"""Kind -> how it is detected, and its collector, both below a root directory; the first that is there counts.

Where a kind of two parts is there, one of its parts is too and comes first: so it must be named.
"""


def find_device(root: Path = Path("/"), kind: str | None = None) -> tuple[str, Device]:
    """The kind and the device of the machine whose file systems are below `root`; of `kind` only, if it is named.

    Raises `DeviceUnavailable` where there is none, `UsageError` for a kind that has no collector.
    """
    if kind is not None and kind not in COLLECTORS:
        raise UsageError(f"nothing collects evidence of kind {kind[:32]!r}", remedy=f"Known: {', '.join(COLLECTORS)}.")
    for name, (detect, make) in COLLECTORS.items():
        if kind in (None, name) and detect(root) is not None:
            return name, make(root)
    raise DeviceUnavailable(f"there is no TEE at {root}" if kind is None else f"there is no {kind} device at {root}")
