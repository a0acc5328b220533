"""A worker put together from its parts: place, broker, artifact, workload, front.

Knows: which part goes where. Does not know: what any part does. The command line and the demo call this and nothing below it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from strongroom.appraisal.pile import Pile
from strongroom.channel.pacing import Pacing
from strongroom.crypto.signatures import PublicKey
from strongroom.engines.nursery import Nursery
from strongroom.errors import FileUnreadable, UsageError
from strongroom.receipts.cosignature import Quorum, Witness
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.evidence import Collateral
from strongroom.records.worker import Configuration
from strongroom.release.client import BrokerClient
from strongroom.sealed.open import Opener
from strongroom.sealed.registries import from_reference
from strongroom.services.gateway import LINGER_SECONDS, Within, front
from strongroom.services.models import Told
from strongroom.services.server import PATIENCE_SECONDS
from strongroom.tee.tpm import Collector
from strongroom.worker.attester import Device
from strongroom.worker.devices import find_device
from strongroom.worker.enrolling import Enrolling
from strongroom.worker.hardening import Hardening, harden
from strongroom.worker.later import Exchanging
from strongroom.worker.life import Place, State, Worker
from strongroom.worker.workload import Workload
from strongroom.workloads.inference.models import Restarts
from strongroom.workloads.inference.workload import InferenceWorkload

Profile = Literal["production", "development"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every worker is told, whatever it runs. `tee_root` is `/` but for a simulated TEE, which must be named.

    `tee_kind` is the kind of evidence, None for that of the first device that is there. `witnesses` must have signed the broker's log.
    With `enrol` a TPM is enrolled by the broker, and `collateral` is what stands above its endorsement key.
    """

    broker: str
    broker_fingerprint: Digest
    signer: PublicKey
    image: Digest
    launch_spec: Digest | None
    collateral: Path
    tee_root: Path
    tee_kind: str | None
    profile: Profile
    witnesses: Quorum | None = None
    enrol: bool = False

    def place(self, broker: BrokerClient) -> Place:
        """The TEE at `tee_root`, enrolled with `broker` if need be. Raises `DeviceUnavailable`; there is no fallback."""
        kind, device = find_device(self.tee_root, self.tee_kind)
        if self.profile == "production" and self.tee_root != Path("/"):
            raise UsageError(
                "a production worker proves itself by the machine's own TEE", remedy="Leave --tee-root out."
            )
        return Place(kind, device, self._source(device, broker), self.image, self.launch_spec)

    def _source(self, device: Device, broker: BrokerClient) -> Callable[[], Collateral]:
        if not self.enrol:
            return self._read_collateral
        if not isinstance(device, Collector):
            raise UsageError(
                "only a TPM with an attestation key of its own is enrolled",
                remedy="Leave --enrol out, or --tee-kind tpm.",
            )
        return Enrolling(device, broker, self._above, lambda: int(time.time()))

    def _above(self) -> Pile:
        """The certificates and lists in `collateral`."""
        pile = Pile(now=int(time.time()))
        try:
            pile.add(self.collateral.read_bytes())
        except OSError as error:
            raise FileUnreadable(f"{self.collateral}: {error.strerror}") from None
        return pile

    def _read_collateral(self) -> Collateral:
        try:
            return codec.decode(Collateral, self.collateral.read_bytes())
        except OSError as error:
            raise FileUnreadable(f"{self.collateral}: {error.strerror}") from None


def configuration(
    workload: str, surroundings: Surroundings, settings: Mapping[str, str | int], job: Digest | None = None
) -> Configuration:
    """What is measured of how a worker was told to work; owners compute it beforehand for their policy."""
    named = surroundings.witnesses
    return Configuration(
        workload=workload,
        broker=surroundings.broker_fingerprint,
        settings=settings,
        job=job,
        witnesses=() if named is None else tuple(witness.key for witness in named.witnesses),
        least=0 if named is None else named.least,
    )


def quorum(told: Configuration) -> Quorum | None:
    """The witnesses of a measured configuration. Raises `MalformedRecord` or `UsageError` for keys that are none."""
    return Quorum(told.least, tuple(map(Witness.parse, told.witnesses))) if told.witnesses else None


async def run_worker(
    workload: Workload,
    surroundings: Surroundings,
    told: Configuration,
    references: Sequence[str | tuple[str, PublicKey]],
    report: Callable[[State, str], None],
) -> None:
    """One worker's life, until its work is done, it is told to stop (SIGTERM, SIGINT) or its lease ends. Raises what ended it.

    `references` are what is opened, in the order of the statement; one that another owner signed comes with that owner's key.
    At SIGHUP they are looked up anew, where the workload can take another artifact in the place of one that it has.
    """
    hardening = harden()
    if surroundings.profile == "production":
        hardening.require()
    report(State.STARTED, hardened(hardening))
    named = [(each, surroundings.signer) if isinstance(each, str) else each for each in references]

    def resolved() -> list[Opener]:
        return [Opener(*from_reference(reference), signer_public=signer) for reference, signer in named]

    broker = BrokerClient(surroundings.broker, fingerprint=told.broker, witnesses=quorum(told))
    place = surroundings.place(broker)
    worker = Worker(
        workload,
        place=place,
        broker=broker,
        configuration=told,
        inputs=resolved(),
        again=resolved,
        clock=lambda: int(time.time()),
        report=report,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if isinstance(workload, Exchanging):
        loop.add_signal_handler(signal.SIGHUP, worker.look_again)
    await worker.live()


def hardened(hardening: Hardening) -> str:
    """What came of the worker's own hardening, for people."""
    missing = "; ".join(f"{name}: {reason}" for name, reason in hardening.missing.items())
    return f"no core dumps, not dumpable, never swapped{f', but for {missing}' if missing else ''}"


def inference(
    told: Told,
    *,
    profile: Profile,
    host: str,
    port: int,
    ready: Callable[[str], None],
    pacing: Pacing,
    within: Within | None = None,
    around: Within | None = None,
    restarts: Restarts,
    patience: float = PATIENCE_SECONDS,
    heard: Callable[[str], None] = lambda _: None,
) -> InferenceWorkload:
    """The inference workload behind a gateway on `host`:`port`; layers `within` the seal and `around` it.

    `heard` is given a sentence for each start and crash of an engine; `patience` as in `Server`.
    """
    nursery = Nursery()
    carried = front(host, port, ready, within=within, around=around, linger=LINGER_SECONDS, patience=patience)
    models = told.make(profile, nursery, restarts=restarts, told=heard)
    return InferenceWorkload.of(models, carried, pacing=pacing, nursery=nursery, resident=told.resident)
