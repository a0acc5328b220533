"""One worker on a fake chip, its evidence, and a policy that admits it; tests change one thing each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.appraisal.appraise import appraise
from strongroom.appraisal.policies import template
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.evidence import Event, EvidenceBundle
from strongroom.records.policy import Policy, Requirement
from strongroom.records.verdict import Verdict
from strongroom.records.worker import Statement
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrconfigid_for, mrtd_for, reference_for

NOW = 1_800_000_000
NONCE = bytes(range(32))
PURPOSE = "release"
IMAGE = digest_bytes(b"image")
MODEL = digest_bytes(b"model")
CONFIGURATION = digest_bytes(b"configuration")
LAUNCH_SPEC = digest_bytes(b"launch spec")
KEYS = WorkerKeys.generate(now=NOW)


@dataclass
class Case:
    """Evidence and what it is judged by; `judge` may be given anything else instead."""

    installation: Installation
    anchors: tuple[TrustAnchor, ...]
    statement: Statement
    policy: Policy
    bundle: EvidenceBundle = field(init=False)

    def __post_init__(self) -> None:
        self.bundle = self.prove()

    def prove(
        self,
        *,
        statement: Statement | None = None,
        measured: Statement | None = None,
        image: Digest = IMAGE,
        launch_spec: Digest | None = LAUNCH_SPEC,
        nonce: bytes = NONCE,
        purpose: str = PURPOSE,
        later: Sequence[Event] = (),
        once: bool = True,
        **chip: Any,
    ) -> EvidenceBundle:
        """Evidence of a TD on a fresh chip. `measured` is what is extended, `statement` what is said.

        `later` is measured after it; without `once` by a worker that forgets what it measured before.
        """
        said = statement or self.statement
        device = Chip(self.installation, mrtd=mrtd_for(image), mrconfigid=mrconfigid_for(launch_spec), **chip)
        collateral = self.installation.bundle(NOW)
        attester = Attester(device, lambda: collateral, kind="tdx", keyset=KEYS.keyset, statement=measured or said)
        if measured is not None:
            attester._statement = said
        for event in later:
            before = attester._events
            attester._events = before if once else ()
            attester.measure(event)
            attester._events = attester._events if once else (*before, event)
        return attester.prove(nonce, purpose)

    def judge(self, bundle: EvidenceBundle | None = None, **changed: Any) -> Verdict:
        how = {"policy": self.policy, "anchors": self.anchors, "nonce": NONCE, "purpose": PURPOSE, "now": NOW}
        return appraise(bundle or self.bundle, **(how | changed))

    def failed(self, bundle: EvidenceBundle | None = None, **changed: Any) -> set[str]:
        verdict = self.judge(bundle, **changed)
        assert not verdict.accepted
        return {check.id for check in verdict.failed}


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder: Path = tmp_path_factory.mktemp("installation")
    return Installation.create(folder / "sim", now=NOW)


@pytest.fixture
def case(installation: Installation) -> Case:
    reference = reference_for(IMAGE)
    policy = replace(
        template("test", references=[reference], artifacts=[MODEL], simulated=True),
        configuration=Requirement(one_of=(CONFIGURATION,)),
        launch_spec=Requirement(one_of=(LAUNCH_SPEC,)),
    )
    statement = Statement("inference", IMAGE, LAUNCH_SPEC, (MODEL,), CONFIGURATION)
    return Case(installation, (installation_anchor("tdx", installation.root_pem),), statement, policy)


@pytest.fixture
def with_policy(case: Case) -> Callable[..., Policy]:
    def change(**members: Any) -> Policy:
        return replace(case.policy, **members)

    return change
