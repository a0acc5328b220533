"""What `bench broker` measures on: an owner, a broker on a real disk, and workers, each on a simulated chip of its own.

Knows: how evidence is prepared before a clock starts. Does not know: what is measured. Each chip has its own platform identifiers,
PCK key and PCK certificate, besides its quoting enclave, so that nothing remembered of one chip helps with another; the collateral is
the installation's, as one fleet of one model of processor shares it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.signatures import fingerprint, generate_p256
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.evidence import Collateral
from strongroom.records.release import (
    PURPOSE_RELEASE,
    Challenge,
    Edition,
    KeyRequest,
    ReleaseRequest,
    Use,
    WrappedKey,
)
from strongroom.records.worker import Statement
from strongroom.release.broker import Broker
from strongroom.release.keys import seal_to_broker
from strongroom.release.opening import open_broker
from strongroom.release.profile import DEVELOPMENT
from strongroom.release.wire import WrapContext
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for, reference_for

KEY_ID, POLICY_ID = "model", "policy"
IMAGE, ARTIFACT, CONFIGURATION = digest_bytes(b"image"), digest_bytes(b"artifact"), digest_bytes(b"configuration")
DATA_KEY_BYTES, ARTIFACT_ID_BYTES = 32, 16


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker on a chip of its own, measured and ready to prove."""

    attester: Attester

    def request(self, challenge: Challenge, wrapped: WrappedKey) -> bytes:
        """The bytes that answer `challenge` and ask for the one key."""
        bundle = self.attester.prove(challenge.nonce, challenge.purpose)
        return codec.encode(ReleaseRequest(challenge, bundle, (KeyRequest(ARTIFACT, wrapped, Use.OPEN),)))


@dataclass(frozen=True, slots=True)
class Estate:
    """A broker's state in `place`, with one key and one policy; open it only while no other process has it."""

    place: Path
    installation: Installation
    owner: EllipticCurvePrivateKey
    collateral: Collateral

    @classmethod
    def make(cls, place: Path) -> Estate:
        """A new installation and a new owner, in `place`, which may be new."""
        now = int(time.time())
        installation = Installation.create(place / "installation", now=now)
        return cls(place, installation, generate_p256(), installation.bundle(now))

    @property
    def state(self) -> Path:
        return self.place / "broker"

    @property
    def anchor(self) -> Path:
        return self.place / "installation" / "root.pem"

    @contextmanager
    def broker(self) -> Iterator[Broker]:
        """The broker in this process."""
        anchors = [installation_anchor("tdx", self.installation.root_pem)]
        opened = open_broker(self.state, anchors=anchors, owners=[self.owner.public_key()], profile=DEVELOPMENT)
        try:
            yield opened
        finally:
            opened.close()

    def furnish(self, broker: Broker) -> WrappedKey:
        """Policy, key, and a wrapped data key of the one artifact."""
        now, who = int(time.time()), self._who
        policy = template(POLICY_ID, references=[reference_for(IMAGE)], artifacts=[ARTIFACT], simulated=True)
        broker.administration.put_policy(sign_policy(policy, self.owner), who=who, now=now)
        broker.administration.create_key(KEY_ID, POLICY_ID, who=who, now=now)
        of = Edition.first(os.urandom(ARTIFACT_ID_BYTES))
        context = WrapContext(broker.identity.fingerprint, KEY_ID, of)
        sealed = seal_to_broker(broker.identity.wrapping, os.urandom(DATA_KEY_BYTES), context)
        return broker.administration.wrap(KEY_ID, sealed, who=who, now=now)

    def worker(self) -> Worker:
        """A fresh worker on a fresh chip."""
        now = int(time.time())
        keys = WorkerKeys.generate(now=now)
        statement = Statement("inference", IMAGE, None, (ARTIFACT,), CONFIGURATION)
        chip = Chip(self._machine(now), mrtd=mrtd_for(IMAGE))
        return Worker(Attester(chip, lambda: self.collateral, kind="tdx", keyset=keys.keyset, statement=statement))

    def _machine(self, now: int) -> Installation:
        """Another machine under the same CAs."""
        platform = replace(self.installation.platform, ppid=os.urandom(16), instance_id=os.urandom(16))
        keys = self.installation.keys | {"pck": generate_p256()}
        return replace(self.installation, keys=keys).reissued("pck", now, platform=platform)

    @property
    def _who(self) -> Digest:
        return fingerprint(self.owner.public_key())


def requests(challenge: Callable[[str], Challenge], workers: Sequence[Worker], wrapped: WrappedKey) -> list[bytes]:
    """One request of each worker, over a challenge of its own."""
    challenges = [challenge(PURPOSE_RELEASE) for _ in workers]
    return [worker.request(one, wrapped) for worker, one in zip(workers, challenges, strict=True)]
