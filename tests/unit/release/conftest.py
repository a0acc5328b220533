"""A broker with an appraiser of the tests' own, an owner, and workers that answer its challenges."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opened_leaves import opened_leaves

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import fingerprint, generate_ed25519, generate_p256, raw_public
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Collateral, Evidence, EvidenceBundle
from strongroom.records.policy import Policy, Reference
from strongroom.records.release import (
    PURPOSE_RELEASE,
    Challenge,
    Edition,
    KeyRequest,
    Leaf,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    Use,
    WrappedKey,
    renewal_purpose,
)
from strongroom.records.verdict import Level, Verdict, judged
from strongroom.records.worker import Keyset, Statement
from strongroom.release.broker import Broker
from strongroom.release.keys import seal_to_broker
from strongroom.release.state import DATABASE, BrokerKeys
from strongroom.release.stores.sqlite import SqliteStore
from strongroom.release.wire import WrapContext

NOW = 1_800_000_000
ARTIFACT = digest_bytes(b"an artifact in a registry")
ARTIFACT_ID = b"artifact-id-16-b"
OF = Edition.first(ARTIFACT_ID)
DATA_KEY = bytes(range(32))
KEY_ID, POLICY_ID = "model", "policy"
COLLATERAL = Collateral()
REGISTER = "00" * 48


class Appraiser:
    """Judges freshness itself, and everything else as the test says."""

    def __init__(self) -> None:
        self.admits = True
        self.claims = {}
        self.count = 0

    def __call__(self, bundle: EvidenceBundle, *, policy: Policy, nonce: bytes, purpose: str, now: int) -> Verdict:
        self.count += 1
        evidence = bundle.evidence
        checks = (
            judged("binding.nonce", evidence.nonce == nonce),
            judged("binding.purpose", evidence.purpose == purpose),
            judged("policy.test", self.admits, "what the test says"),
        )
        return Verdict(Level.SIMULATED, checks, self.claims, evidence.digest, policy.digest, purpose, now)


class Worker:
    """A worker's keys and what it runs."""

    def __init__(self, *, artifacts: tuple[str, ...] = (ARTIFACT,), not_after: int = NOW + 86_400) -> None:
        self.release, self.receipt = ReleaseKey.generate(), generate_ed25519()
        self.keyset = Keyset(b"c" * 32, self.release.public, raw_public(self.receipt), None, ("ehbp/1",), not_after)
        image = digest_bytes(b"image")
        self.statement = Statement("inference", image, None, artifacts, digest_bytes(b"configuration"))

    def prove(self, nonce: bytes, purpose: str) -> EvidenceBundle:
        return EvidenceBundle(
            Evidence("tdx", b"quote", b"", (), nonce, purpose, self.keyset, self.statement), COLLATERAL
        )


@dataclass
class World:
    """A broker and its owner. `now` is the time that every verb uses."""

    directory: Path
    keys: BrokerKeys = field(default_factory=BrokerKeys.generate)
    appraiser: Appraiser = field(default_factory=Appraiser)
    now: int = NOW

    def __post_init__(self) -> None:
        self.owner = generate_p256()
        self.who = fingerprint(self.owner.public_key())
        self.open()

    def open(self) -> None:
        """Start the broker, also once more over the same store."""
        self.store = SqliteStore(self.directory / DATABASE)
        self.broker = Broker(self.store, self.keys, appraiser=self.appraiser, owner_keys=[self.owner.public_key()])

    @property
    def admin(self):
        return self.broker.administration

    def policy(
        self,
        *,
        version: int = 1,
        lease_seconds: int = 300,
        policy_id: str = POLICY_ID,
        editions: Mapping[str, int] | None = None,
    ) -> Policy:
        registers = dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2"), (REGISTER,))
        reference = Reference(digest_bytes(b"image"), "tdx", registers)
        made = template(policy_id, references=[reference], artifacts=[ARTIFACT], simulated=True)
        return dataclasses.replace(made, version=version, lease_seconds=lease_seconds, editions=editions or {})

    def put_policy(self, **members: object) -> None:
        envelope = sign_policy(self.policy(**members), self.owner)
        self.admin.put_policy(envelope, who=self.who, now=self.now)

    def wrap(self, *, key_id: str = KEY_ID, of: Edition = OF, data_key: bytes = DATA_KEY) -> WrappedKey:
        identity = self.broker.identity
        request = seal_to_broker(identity.wrapping, data_key, WrapContext(identity.fingerprint, key_id, of))
        return self.admin.wrap(key_id, request, who=self.who, now=self.now)

    def prepared(self) -> WrappedKey:
        """A policy, a key under it, and a wrapped data key."""
        self.put_policy()
        self.admin.create_key(KEY_ID, POLICY_ID, who=self.who, now=self.now)
        return self.wrap()

    def challenge(self, purpose: str = PURPOSE_RELEASE) -> Challenge:
        return self.broker.challenge(purpose, now=self.now)

    def request(
        self, worker: Worker, wrapped: WrappedKey, *, challenge: Challenge | None = None, artifact: str = ARTIFACT
    ) -> ReleaseRequest:
        challenge = challenge or self.challenge()
        bundle = worker.prove(challenge.nonce, challenge.purpose)
        return ReleaseRequest(challenge, bundle, (KeyRequest(artifact, wrapped, Use.OPEN),))

    def release(self, request: ReleaseRequest) -> ReleaseAnswer:
        return self.broker.release(codec.encode(request), now=self.now)

    def renewal(self, worker: Worker, lease_id: str, *, challenge: Challenge | None = None) -> RenewalRequest:
        challenge = challenge or self.challenge(renewal_purpose(lease_id))
        return RenewalRequest(challenge, worker.prove(challenge.nonce, challenge.purpose), lease_id)

    def renew(self, worker: Worker, lease_id: str) -> ReleaseAnswer:
        request = self.renewal(worker, lease_id)
        return self.broker.renew(lease_id, codec.encode(request), now=self.now)

    def log_size(self) -> int:
        return self.store.read(lambda reader: reader.log_size())

    def leaves(self):
        """All leaves, opened as far as they still can be."""
        return self.store.read(opened_leaves)

    def logged(self):
        """All leaves as everybody sees them."""
        return self.store.read(_leaves)


def _leaves(reader):
    return [codec.decode(Leaf, leaf) for leaf in reader.log_leaves(0, reader.log_size())]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.broker.close()


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def another_worker() -> Worker:
    return Worker()
