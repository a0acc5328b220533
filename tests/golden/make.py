"""Make the golden files anew: one example of each record that travels, by real code on a fake chip.

Run it only when a record's version changes: `python tests/golden/make.py`. What is committed is the promise to older peers.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_ed25519, generate_p256
from strongroom.launch.life.wipe import NOT_SHOWN, ORDER
from strongroom.receipts.chain import chain_head
from strongroom.records import codec
from strongroom.records.azure import AzureEvidence
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.google import GoogleEvidence
from strongroom.records.job import JobSpec
from strongroom.records.launched import Wiped, WipeReceipt
from strongroom.records.policy import Reference, Requirement
from strongroom.records.receipt import Receipt, commitment
from strongroom.records.reference import CustodyList, Machine, MeasuredInput, ReferenceValues
from strongroom.records.release import PURPOSE_RELEASE, Edition, Grant, KeyRequest, ReleaseRequest, Use
from strongroom.records.tpm import TpmEnrolment, TpmQuote
from strongroom.records.worker import Configuration, Statement
from strongroom.release.client import BrokerClient
from strongroom.release.opening import open_broker
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for, reference_for
from strongroom_sim.azure import AzureVm
from strongroom_sim.broken.tpm import enrolled
from strongroom_sim.google import GoogleVm
from strongroom_sim.snp import SnpChip, SnpInstallation
from strongroom_sim.tpm import Tpm, TpmMaker

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
        reference = reference_for(image)
        policy = replace(
            template("golden", references=[reference], artifacts=[artifact], simulated=True),
            configuration=Requirement(one_of=(configuration.digest,)),
        )
        client.put_policy(sign_policy(policy, owner))
        client.create_key("model", policy.id)
        wrapped = client.wrap("model", Edition.first(b"an artifact's id"), bytes(range(32)))
        keys = WorkerKeys.generate(now=NOW)
        device = Chip(installation, mrtd=mrtd_for(image))
        collateral = installation.bundle(NOW)
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
        **signed_lists(reference, str(verdict.claims["ppid"])),
        **of_tpms(),
        "collateral": collateral,
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
        "wipe-receipt": wiped(),
    }


def wiped() -> WipeReceipt:
    """What a launcher destroyed of a machine."""
    rows = (
        *(("keys", "revoked", "lease"), ("guest", "powered off", "qemu"), ("disk", "none", ""), ("gpu", "none", "")),
        *(("tpm", "overwritten", "tpm/tpm2-00.permall"), ("nvram", "overwritten", "vars.fd")),
        *(("boot-disk", "unlinked", "boot.img"), ("image", "unlinked", "images/00"), ("trace", "none", "")),
    )
    order = {what: number for number, what in enumerate(ORDER)}
    steps = [Wiped(what, name, how, None, None, "") for what, how, name in sorted(rows, key=lambda row: order[row[0]])]
    return WipeReceipt(
        "worker",
        digest_bytes(b"spec"),
        "qemu",
        digest_bytes(b"entry"),
        NOW * 1000,
        NOW * 1000 + 100,
        tuple(steps),
        NOT_SHOWN,
    )


def signed_lists(reference: Reference, ppid: str) -> dict[str, object]:
    """What builders and custodians sign."""
    row = MeasuredInput(reference.image, "rtmr2", "EV_IPL", "00" * 48, "kernel_cmdline: /vmlinuz quiet")
    machine = Machine("ppid", ppid, "allow", "hall 1", "DE")
    return {
        "reference-values": ReferenceValues("builder", 1, (reference,), (row,)),
        "custody": CustodyList("custodian", 1, NOW, NOW + 86_400, (machine,)),
    }


def of_tpms() -> dict[str, object]:
    """A quote of a TPM, a note of its enrolment, and the same TPM above a paravisor."""
    maker = TpmMaker.generate(now=NOW)
    tpm = Tpm(maker, NOW)
    tpm.boot(b"image")
    vm, hardware = AzureVm(tpm), SnpInstallation.generate(now=NOW)
    chip = SnpChip(hardware, measurement=bytes(48), now=NOW)
    note = Envelope.from_bytes(enrolled(tpm, generate_ed25519(), NOW).enrolment)
    return {
        "tpm-quote": codec.decode(TpmQuote, tpm.quote(bytes(32))),
        "tpm-enrolment": codec.decode(TpmEnrolment, note.payload),
        "google-evidence": codec.decode(GoogleEvidence, GoogleVm(tpm, NOW).evidence(chip.report, bytes(32))),
        "azure-evidence": codec.decode(AzureEvidence, vm.evidence(chip.report, bytes(32))),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for name, record in main(Path(place)).items():
            (HERE / f"{name}.json").write_bytes(codec.encode(record))
        (HERE / "root.pem").write_bytes((Path(place) / "sim" / "root.pem").read_bytes())
