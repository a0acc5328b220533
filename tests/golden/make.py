"""Make the golden files anew: one example of each record that travels, by real code on a fake chip.

Run it only when a record's version changes: `python tests/golden/make.py`. What is committed is the promise to older peers.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.job import JobSpec
from strongroom.records.policy import Reference, Requirement
from strongroom.records.receipt import Receipt, commitment
from strongroom.records.release import PURPOSE_RELEASE, Grant, KeyRequest, ReleaseRequest, Use
from strongroom.records.worker import Configuration, Statement
from strongroom.release.chain import chain_head
from strongroom.release.client import BrokerClient
from strongroom.release.opening import open_broker
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for

HERE = Path(__file__).parent
NOW = 1_800_000_000


def main(folder: Path) -> dict[str, object]:
    """Every record of one release and one answer."""
    installation = Installation.create(folder / "sim", now=NOW)
    owner = generate_p256()
    anchors = (installation_anchor("tdx", installation.root_pem),)
    broker = open_broker(folder / "broker", anchors=anchors, owners=[owner.public_key()], profile="development")
    with BackgroundServer(broker_app(broker, clock=lambda: NOW)) as server:
        client = BrokerClient(server.url, fingerprint=broker.identity.fingerprint, identity=owner, clock=lambda: NOW)
        image, artifact = digest_bytes(b"image"), digest_bytes(b"artifact")
        configuration = Configuration(
            "inference", broker.identity.fingerprint, {"engine": "llama", "context": 2048}, None
        )
        statement = Statement("inference", image, None, (artifact,), configuration.digest)
        zeros = "00" * 48
        reference = Reference(image, mrtd=mrtd_for(image).hex(), rtmr0=zeros, rtmr1=zeros, rtmr2=zeros)
        policy = replace(
            template("golden", references=[reference], artifacts=[artifact], simulated=True),
            configuration=Requirement(one_of=(configuration.digest,)),
        )
        client.put_policy(sign_policy(policy, owner))
        client.create_key("model", policy.id)
        wrapped = client.wrap("model", b"an artifact's id", bytes(range(32)))
        keys = WorkerKeys.generate(now=NOW)
        device = Chip(installation, mrtd=mrtd_for(image))
        collateral = installation.collateral(NOW)
        attester = Attester(device, lambda: collateral, kind="tdx", keyset=keys.keyset, statement=statement)
        challenge = client.challenge(PURPOSE_RELEASE)
        bundle = attester.prove(challenge.nonce, PURPOSE_RELEASE)
        request = ReleaseRequest(challenge, bundle, (KeyRequest(artifact, wrapped, Use.OPEN),))
        answer = client.release(request)
        verdict = client.verdict(answer.token)
    receipt = Receipt(
        workload="inference",
        keyset=keys.keyset.digest,
        statement=statement.digest,
        evidence=bundle.evidence.digest,
        policy=policy.digest,
        artifacts=(artifact,),
        request=commitment(bytes(32), "request", bytes(32)),
        response=commitment(bytes(32), "response", bytes(32)),
        usage={"prompt_tokens": 12, "completion_tokens": 7},
        outcome="complete",
        lease_id=answer.lease_id,
        chain=chain_head(None, answer.token),
        sequence=1,
        time=NOW,
    )
    job = JobSpec(
        "sum", digest_bytes(b"code"), "", (artifact,), ("--fast",), (ReleaseKey.generate().public,), 60, 1 << 20
    )
    return {
        "configuration": configuration,
        "evidence-bundle": bundle,
        "grant": codec.decode(Grant, answer.grants[0].payload),
        "job": job,
        "keyset": keys.keyset,
        "policy": policy,
        "receipt": receipt,
        "release-answer": answer,
        "release-request": request,
        "statement": statement,
        "verdict": verdict,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for name, record in main(Path(place)).items():
            (HERE / f"{name}.json").write_bytes(codec.encode(record))
        (HERE / "root.pem").write_bytes((Path(place) / "sim" / "root.pem").read_bytes())
