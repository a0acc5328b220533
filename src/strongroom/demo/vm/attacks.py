"""Machines that are not the one that was measured, and evidence that is not theirs: each is refused, and what differs is named.

Knows: what a host can do: start another system, put in another chip, say again what was once said. Does not know: any key of the owner's,
the broker's or the machine's. What a machine proved is read off the wire between it and the broker, which the host owns.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from strongroom.appraisal import appraise
from strongroom.appraisal.gather import read_anchors, read_enroller
from strongroom.crypto.signatures import PublicKey, public_from_pem
from strongroom.demo.attacks import code_of
from strongroom.demo.vm.site import SECONDS, Kept, Site
from strongroom.demo.vm.vendor import Vendor
from strongroom.errors import LaunchFailed, StrongroomError
from strongroom.launch.image import tcb
from strongroom.launch.image.unified import unify
from strongroom.launch.life.attest import explain_evidence
from strongroom.launch.measure.uki import parse_uki
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.launched import State
from strongroom.records.policy import Policy
from strongroom.records.release import PURPOSE_RELEASE, KeyRequest, ReleaseRequest, Use
from strongroom.release.client import BrokerClient
from strongroom.sealed.open import Opener
from strongroom.sealed.registries import from_reference
from strongroom.tee.anchors import VENDOR_ANCHORS
from strongroom.worker.later import wrapped_key

PAUSE_SECONDS = 0.5
OPEN = b"init_on_alloc=0"
"""Memory that the kernel gives out uncleared: a small word that no process would notice."""
_CODE = re.compile(rb'"code": ?"([a-z_.]+)"')
_ENDED = re.compile(rb"init: [^\n]*(?:ended with|: )[^\n]*\n")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a machine ended: the code of the error, and what of its evidence differs from what was computed."""

    code: str
    differs: tuple[str, ...]


def other_command_line(image: bytes, stub: bytes) -> bytes:
    """The same image, whose kernel is told one thing otherwise."""
    return _rebuilt(image, stub, line=parse_uki(image).command_line.encode().replace(b"init_on_alloc=1", OPEN))


def _rebuilt(image: bytes, stub: bytes, *, line: bytes) -> bytes:
    uki = parse_uki(image)
    sections = [
        (".osrel", bytes(uki.measured[".osrel"])),
        (".cmdline", line),
        (".linux", bytes(uki.kernel)),
        (".initrd", bytes(uki.initrd)),
    ]
    return unify(stub, sections)


def refused(site: Site, good: Kept, image: Path, policy: Policy, *, vendor: Vendor | None = None) -> Refusal:
    """Boot `image` and see how it ends. Its host says that it is the image of `good`."""
    spec = site.spec(image)
    kept = site.machine(spec, site.disk(good.spec.image), vendor=vendor)
    kept.launcher.up(State.BOOTED)
    try:
        code = _ending(kept)
        shown = next((b for b in seen(site) if _registers(b, kept)), None) if vendor is None else None
        return Refusal(code, () if shown is None else tuple(differs(site, good, shown, policy)))
    finally:
        site.down(kept)


def _ending(kept: Kept) -> str:
    """The code of the error that the worker's console shows last, when its machine has ended."""
    console, deadline = kept.launcher.place.state / "console.log", time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not kept.launcher.status().alive:
            found = _CODE.findall(console.read_bytes())
            return found[-1].decode() if found else "none"
        time.sleep(PAUSE_SECONDS)
    raise LaunchFailed("the machine neither ended nor was refused")


def seen(site: Site) -> Iterator[EvidenceBundle]:
    """Every proof that a machine sent to the broker, as the host saw it pass, the newest first."""
    for capture in sorted(site.wire.glob("*-in.bin"), reverse=True):
        for body in _bodies(capture.read_bytes()):
            try:
                yield codec.decode(ReleaseRequest, body).bundle
            except StrongroomError:
                continue


def _bodies(data: bytes) -> Iterator[bytes]:
    while (end := data.find(b"\r\n\r\n")) >= 0:
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", data[: end + 2])
        size = int(length[1]) if length else 0
        yield data[end + 4 : end + 4 + size]
        data = data[end + 4 + size :]


def _registers(bundle: EvidenceBundle, kept: Kept) -> bool:
    """Whether this proof is of that machine: the registers that tell images apart are those that were computed for it."""
    from strongroom.appraisal.kinds import kind_of

    stated = kind_of(bundle.evidence.kind).stated(bundle.evidence.quote)
    return all(stated.get(name) == kept.expected.registers[name] for name in ("pcr4", "pcr11"))


def differs(site: Site, good: Kept, bundle: EvidenceBundle, policy: Policy) -> list[str]:
    """Which inputs of the start were not those of the good machine."""
    anchors = [*VENDOR_ANCHORS, *read_anchors(site.vendor.root.read_bytes()), read_enroller(site.enroller.read_bytes())]
    evidence = bundle.evidence
    verdict = appraise(
        bundle,
        policy=policy,
        anchors=tuple(anchors),
        nonce=evidence.nonce,
        purpose=evidence.purpose,
        now=int(time.time()),
    )
    return explain_evidence(good.spec, good.expected, evidence, verdict)


def files_that_differ(image: bytes, other: bytes) -> list[str]:
    """Which files of two images are not the same; bytecode is left to its source."""
    ours, theirs = tcb.contents(image).files, tcb.contents(other).files
    paths = sorted(set(ours) | set(theirs))
    changed = [path for path in paths if ours.get(path) != theirs.get(path) and not path.endswith(".pyc")]
    return [f"in the initrd: {path}" for path in changed if not path.endswith("image.json")]


def replayed(site: Site, good: Kept) -> str:
    """Answer the broker's new challenge with a proof that the good machine made for an older one."""
    recorded = next(bundle for bundle in seen(site) if _registers(bundle, good))
    registry, _ = from_reference(f"dir:{site.registry}:smollm2")
    opener = Opener(registry, "smollm2", signer_public=_public(site.signer))
    client = BrokerClient(site.broker_url, fingerprint=Digest(site.fingerprint))
    try:
        challenge = client.challenge(PURPOSE_RELEASE)
        wanted = (KeyRequest(opener.digest, wrapped_key(opener), Use.OPEN),)
        return code_of(lambda: client.release(ReleaseRequest(challenge, recorded, wanted)))
    finally:
        client.close()


def _public(path: Path) -> PublicKey:
    return public_from_pem(path.read_bytes())
