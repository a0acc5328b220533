"""What is destroyed of a launch, in which order, and the receipt that the launcher signs.

Knows: the order (keys, guest, disks, software TPM, NVRAM, boot disk, copies, traces, GPUs), what overwriting reaches, how a receipt is
signed and checked. Does not know: how a machine is ended (`drivers`), or who may end a lease (`launcher` is given that).
Safety: the receipt is the launcher's own word about its host. Whoever has the host can keep a copy of everything and sign this all
the same; what protects a guest's secrets from its host is the TEE and keys that end, which is why keys come first.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from strongroom.crypto.signatures import (
    SigningKey,
    fingerprint,
    open_envelope,
    public_from_der,
    public_to_der,
    sign_envelope,
)
from strongroom.errors import FileUnreadable, MalformedRecord, SignatureInvalid, UsageError, WipeInvalid
from strongroom.launch.life.files import MOST_OVERWRITTEN, can_be_overwritten, destroy, digest_file, sync_folder
from strongroom.launch.place import full_address
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.launched import Wiped, WipeDocument, WipeReceipt

PAYLOAD_TYPE = "application/vnd.strongroom.wipe-receipt.v1+json"
KEYS, GUEST, DISK, TPM, NVRAM, BOOT, COPIES, TRACES, GPU = ORDER = (
    "keys", "guest", "disk", "tpm", "nvram", "boot-disk", "image", "trace", "gpu",
)  # fmt: skip
"""In this order, and in no receipt in another."""
NONE = "none"
HOW = {
    KEYS: frozenset({"revoked", "ended", "left", "refused", "unreachable", NONE}),
    GUEST: frozenset({"powered off", "quit", "killed", "not running"}),
    GPU: frozenset({"reset", "not reset", NONE}),
}
FILES_HOW = frozenset({"overwritten", "unlinked", NONE})
NOT_SHOWN = (
    "that nobody copied memory, disks or the software TPM's state while the machine ran",
    "that overwriting reached every block: SSDs, copy-on-write and journalling file systems, snapshots and RAID keep older ones",
    "what a host's swap, hibernation image or crash dump holds",
    "that the host, which signs this, says the truth",
)
LOGS = "wipe-*.jsonl"
OVERWRITTEN = frozenset({DISK, TPM, NVRAM, TRACES})
"""Of these a guest's own bytes may be in the file; the others are copies of public images."""
DEVICES = Path("/sys/bus/pci/devices")


@dataclass(frozen=True, slots=True)
class Target:
    """A file that is to go, and what it is."""

    what: str
    path: Path


class Progress:
    """What was destroyed so far, written down before it is done, so that a wipe that was cut short still has a whole receipt."""

    def __init__(self, state: Path, number: int) -> None:
        """`number` is that of the entry with which the wiping began: notes of an earlier life are none of this one."""
        self._path = state / LOGS.replace("*", f"{number:06d}")
        self.done: dict[tuple[str, str], Wiped] = {}
        self._good = 0
        try:
            data = self._path.read_bytes()
        except OSError:
            data = b""
        while (end := data.find(b"\n", self._good)) >= 0:
            try:
                self._keep(codec.decode(Wiped, data[self._good : end]))
            except MalformedRecord:
                break  # torn by a power cut; it is done again
            self._good = end + 1

    def note(self, step: Wiped) -> None:
        """Write `step` down, durably."""
        line = codec.encode(step) + b"\n"
        try:
            with self._path.open("ab") as file:
                file.truncate(self._good)  # a torn line ends here
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FileUnreadable(f"{self._path}: {error.strerror}") from None
        if self._good == 0:
            sync_folder(self._path.parent)
        self._good += len(line)
        self._keep(step)

    def has(self, what: str) -> bool:
        """Whether something of this kind was noted."""
        return any(kind == what for kind, _ in self.done)

    def steps(self) -> tuple[Wiped, ...]:
        """All steps in their order; a kind of which there was nothing is said to be so."""
        missing = [Wiped(what, "", NONE, None, None, "") for what in ORDER if not self.has(what)]
        return tuple(sorted((*self.done.values(), *missing), key=lambda step: (ORDER.index(step.what), step.name)))

    def _keep(self, step: Wiped) -> None:
        self.done[step.what, step.name] = step


def forget_notes(state: Path) -> None:
    """The receipt is written: notes are not needed any more, nor those that an earlier launcher left."""
    for path in state.glob(LOGS):
        path.unlink(missing_ok=True)


def files(progress: Progress, state: Path, targets: Iterable[Target]) -> None:
    """Destroy the files that are there, one after the other. Raises `FileUnreadable` where one stays."""
    for target in targets:
        if not os.path.lexists(target.path):
            continue
        inside = target.path.is_relative_to(state)
        name = str(target.path.relative_to(state) if inside else target.path)
        step = _described(target, name, progress.done.get((target.what, name)))
        progress.note(step)
        how = destroy(target.path, overwrite=target.what in OVERWRITTEN)
        if how != step.how:  # it got another name, or grew, in between
            progress.note(replace(step, how=how))


def _described(target: Target, name: str, noted: Wiped | None) -> Wiped:
    """What is about to be done with a file. Of one that was `noted` before a wipe was cut short, what was in it is known from then."""
    kept = target.path.lstat()
    how = "overwritten" if target.what in OVERWRITTEN and can_be_overwritten(kept) else "unlinked"
    others = kept.st_nlink - 1 if stat.S_ISREG(kept.st_mode) else 0
    detail = f"{others} other name{'s' if others > 1 else ''} of this file: what is in it stays there" if others else ""
    if noted is not None:
        return replace(noted, how=how, detail=detail)
    size = kept.st_size if stat.S_ISREG(kept.st_mode) else None
    digest = digest_file(target.path)[1] if size is not None and size <= MOST_OVERWRITTEN else None
    return Wiped(target.what, name, how, size, digest, detail)


def gpus(progress: Progress, addresses: Iterable[str], devices: Path = DEVICES) -> None:
    """Reset each GPU, so that nothing of the guest stays in its memory; what could not be reset is said."""
    for address in addresses:
        try:
            (devices / full_address(address) / "reset").write_text("1", "ascii")
            step = Wiped(GPU, address, "reset", None, None, "")
        except (OSError, UsageError) as error:
            said = error.message if isinstance(error, UsageError) else str(error.strerror)
            step = Wiped(GPU, address, "not reset", None, None, said)
        progress.note(step)


def sign(receipt: WipeReceipt, key: SigningKey) -> WipeDocument:
    """The receipt, signed by the launcher."""
    return WipeDocument(public_to_der(key.public_key()), sign_envelope(PAYLOAD_TYPE, codec.encode(receipt), key))


def check_wipe(document: WipeDocument, launcher: Digest) -> WipeReceipt:
    """What the launcher with this fingerprint says that it destroyed.

    Raises `SignatureInvalid` where another signed it, `WipeInvalid` where a kind of thing is missing, out of order, or still there;
    `MalformedRecord` where it is no receipt. What a receipt cannot show, it says itself (`not_shown`).
    """
    key = public_from_der(document.launcher)
    if fingerprint(key) != launcher:
        raise SignatureInvalid("this wipe receipt is signed by another launcher", detail=fingerprint(key))
    receipt = codec.decode(WipeReceipt, open_envelope(document.receipt, PAYLOAD_TYPE, [key]))
    for fault in faults(receipt):
        raise WipeInvalid(f"this wipe receipt does not hold: {fault}", detail=receipt.name)
    return receipt


def faults(receipt: WipeReceipt) -> Iterator[str]:
    """What is wrong with a receipt whose signature holds."""
    places = [ORDER.index(step.what) if step.what in ORDER else -1 for step in receipt.steps]
    if -1 in places:
        yield "it names a kind of thing that there is not"
    if places != sorted(places):
        yield f"the order was not {', '.join(ORDER)}"
    for what in ORDER:
        if not any(step.what == what for step in receipt.steps):
            yield f"it does not say what became of: {what}"
    for step in receipt.steps:
        if step.how not in HOW.get(step.what, FILES_HOW):
            yield f"{step.what} {step.name}: {step.how[:32]!r}"
    if not receipt.not_shown or receipt.ended < receipt.began:
        yield "it does not say what it cannot show, or ended before it began"


Revoke = Callable[[str], tuple[str, str]]
"""Ends a lease by its id: how (`revoked`, `ended`, `refused`, `unreachable`), and a detail."""


def keys(progress: Progress, leases: Iterable[str], revoke: Revoke | None) -> None:
    """End the machine's leases before anything else, each if somebody may; what was done is said.

    A broker that does not answer is not waited for again: the machine still runs.
    """
    away = ""
    for lease_id in leases:
        noted = progress.done.get((KEYS, lease_id))
        if noted is not None and noted.how in {"revoked", "ended"}:
            continue
        if revoke is None:
            how, detail = "left", "no administrator's key was given: it ends by its term"
        else:
            how, detail = ("unreachable", away) if away else revoke(lease_id)
        away = detail or "no answer" if how == "unreachable" else away
        progress.note(Wiped(KEYS, lease_id, how, None, None, detail))
    if not progress.has(KEYS):
        progress.note(Wiped(KEYS, "", NONE, None, None, "no keys were released as far as this launcher knows"))
