"""A small real broker and fake chips, and what they leave for an auditor: the same for unit tests and stories."""

import dataclasses
import time

from strongroom.appraisal.policies import sign_policy, template
from strongroom.audit.bundle import Scope
from strongroom.audit.gather import gather
from strongroom.audit.verify import AuditTrust
from strongroom.crypto import merkle
from strongroom.crypto.signatures import generate_p256, sign_envelope
from strongroom.receipts.chain import chain_head
from strongroom.receipts.receipt import Issuer
from strongroom.records import codec
from strongroom.records.audit import AuditQuery
from strongroom.records.digest import digest_bytes, raw
from strongroom.records.policy import Requirement
from strongroom.records.receipt import Receipt
from strongroom.records.release import (
    PURPOSE_RELEASE,
    Edition,
    KeyRequest,
    ReleaseRequest,
    RenewalRequest,
    Use,
    renewal_purpose,
)
from strongroom.records.worker import Configuration, Statement
from strongroom.release.keys import seal_to_broker
from strongroom.release.opening import open_broker
from strongroom.release.wire import RECEIPTS_PAYLOAD_TYPE, ReceiptsRoot, WrapContext
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for, reference_for

IMAGE, MODEL, MODEL_ID = digest_bytes(b"an image"), digest_bytes(b"a sealed model"), b"artifact-id-16-b"
LEASE_SECONDS = 120
EVER = codec.MAX_INTEGER


class AuditedBroker:
    """A broker with an owner and a policy, over which a test moves the time."""

    def __init__(self, directory):
        self.now = int(time.time())
        self.installation = Installation.create(directory / "installation", now=self.now)
        self.anchors = (installation_anchor("tdx", self.installation.root_pem),)
        self.owner = generate_p256()
        self.broker = open_broker(
            directory / "broker", anchors=self.anchors, owners=[self.owner.public_key()], profile="development"
        )
        self.identity = self.broker.identity
        self.put_policy(1)
        self.act("create_key", "model", "models")
        context = WrapContext(self.identity.fingerprint, "model", Edition.first(MODEL_ID))
        request = seal_to_broker(self.identity.wrapping, bytes(range(32)), context)
        self.wrapped = self.act("wrap", "model", request)

    def act(self, verb, *arguments):
        return getattr(self.broker.administration, verb)(*arguments, who=digest_bytes(b"owner"), now=self.now)

    def put_policy(self, version):
        made = template("models", references=[reference_for(IMAGE)], artifacts=[MODEL], simulated=True)
        self.policy = dataclasses.replace(
            made, version=version, launch_spec=Requirement(any="none is launched here"), lease_seconds=LEASE_SECONDS
        )
        self.act("put_policy", sign_policy(self.policy, self.owner))

    @property
    def trust(self):
        return AuditTrust(
            broker=self.identity.fingerprint,
            owners=(self.owner.public_key(),),
            anchors=self.anchors,
            accept_simulated=True,
        )

    def pages(self, lease=None, since=0, until=EVER):
        start = size = 0
        while True:
            page = self.broker.audit(AuditQuery(start, size, lease, since, until), sees=lambda *_: True)
            yield page
            start, size = page.next, page.size
            if start == size:
                return

    def bundle(self, *, lease=None, policy=None, since=0, until=EVER, receipts=()):
        """What `audit export` gathers."""
        return gather(
            self.pages(lease, since, until),
            Scope(lease, policy, since, until),
            identity=self.broker.identity_envelope,
            broker=self.identity.fingerprint,
            receipts=receipts,
        )


class AuditedWorker:
    """One fake chip with a worker's keys, which proves itself, renews, and signs receipts."""

    def __init__(self, world):
        self.world, self.keys, self.sequence, self.receipts = world, WorkerKeys.generate(now=world.now), 0, []
        configuration = Configuration("inference", world.identity.fingerprint, {}, None)
        self.attester = Attester(
            Chip(world.installation, mrtd=mrtd_for(IMAGE)),
            lambda: world.installation.bundle(world.now),
            kind="tdx",
            keyset=self.keys.keyset,
            statement=Statement("inference", IMAGE, None, (MODEL,), configuration.digest),
        )

    def prove(self, purpose):
        challenge = self.world.broker.challenge(purpose, now=self.world.now)
        return challenge, self.attester.prove(challenge.nonce, purpose)

    def obtain(self):
        challenge, bundle = self.prove(PURPOSE_RELEASE)
        request = ReleaseRequest(challenge, bundle, (KeyRequest(MODEL, self.world.wrapped, Use.OPEN),))
        answer = self.world.broker.release(codec.encode(request), now=self.world.now)
        self.lease, self.chain, self.evidence = answer.lease_id, chain_head(None, answer.token), bundle.evidence
        return self

    def renew(self):
        challenge, bundle = self.prove(renewal_purpose(self.lease))
        request = codec.encode(RenewalRequest(challenge, bundle, self.lease))
        answer = self.world.broker.renew(self.lease, request, now=self.world.now)
        self.chain = chain_head(self.chain, answer.token)

    def receipt(self):
        """One signed receipt, as bytes."""
        self.sequence += 1
        receipt = Receipt(
            "inference", self.keys.keyset.digest, self.attester.statement.digest, self.evidence.digest,
            self.world.policy.digest, (MODEL,), bytes(32), bytes(32), {"tokens": 3}, "complete", self.lease, self.chain,
            self.sequence, self.world.now,
        )  # fmt: skip
        self.receipts.append(receipt.digest)
        return Issuer(self.keys.receipt).issue(receipt).to_bytes()

    def log_receipts(self):
        """The root of all receipts so far."""
        root = merkle.root([merkle.leaf_hash(raw(digest)) for digest in self.receipts])
        record = ReceiptsRoot(self.lease, self.sequence, len(self.receipts), root)
        envelope = sign_envelope(RECEIPTS_PAYLOAD_TYPE, codec.encode(record), self.keys.receipt)
        self.world.broker.post_receipts(envelope, now=self.world.now)
        self.receipts = []
