"""A whole river in one process: fake vendor, broker, sealed model, worker on a fake chip, gateway. Only the engine is a double."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from strongroom.appraisal.policies import sign_policy, template
from strongroom.client.client import Client
from strongroom.crypto.signatures import generate_p256
from strongroom.engines.confine import Confinement
from strongroom.errors import EngineUnavailable
from strongroom.records.artifact import ArtifactKind, KeyWrap
from strongroom.records.digest import digest_bytes
from strongroom.records.policy import Policy, Requirement
from strongroom.records.release import Edition
from strongroom.records.worker import Configuration
from strongroom.release.broker import Broker
from strongroom.release.client import BrokerClient
from strongroom.release.opening import open_broker
from strongroom.sealed.open import Opener
from strongroom.sealed.registries import from_reference
from strongroom.sealed.seal import seal
from strongroom.services.broker import broker_app
from strongroom.services.gateway import front
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.life import Place, State, Worker
from strongroom.worker.workload import Workload
from strongroom.workloads.inference.models import Model
from strongroom.workloads.inference.workload import InferenceWorkload
from strongroom_sim import Chip, Installation, mrtd_for, reference_for

IMAGE = digest_bytes(b"image")
ZEROS = "00" * 48
WORDS = ["The", " capital", " of", " France", " is", " Paris", "."]
SETTINGS: dict[str, str | int] = {"name": "echo", "context": 256}
WAIT = 30.0


class EchoEngine:
    """Stands where an `EngineProcess` stands: says the same words, can be broken on purpose."""

    def __init__(self) -> None:
        self.spawned = self.loaded = b""
        self.adapters: list[bytes] = []
        self.killed = False
        self.fail_after: int | None = None
        self.halt_after: int | None = None
        self.requests: list[dict[str, Any]] = []
        self.ended: asyncio.Event | None = None
        self.gate: asyncio.Event | None = None

    def spawn(self) -> None:
        self.spawned = b"yes"

    async def load(self, model: int, settings: Mapping[str, str | int], adapters: Sequence[int] = ()) -> Confinement:
        self.ended = asyncio.Event()
        self.adapters = [os.pread(adapter, 1 << 20, 0) for adapter in adapters]
        self.loaded = os.pread(model, 1 << 20, 0)
        assert settings["name"]
        return Confinement(dict.fromkeys(Confinement.NAMES, "yes"))

    async def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        self.requests.append(dict(request))
        usage = {"prompt_tokens": 5, "completion_tokens": len(WORDS)}
        if not request.get("stream"):
            message = {"role": "assistant", "content": "".join(WORDS)}
            yield json.dumps(
                {"object": operation, "choices": [{"index": 0, "message": message}], "usage": usage}
            ).encode()
            return
        for number, word in enumerate(WORDS):
            if self.fail_after == number:
                raise EngineUnavailable("the engine ended before its answer did")
            if self.halt_after == number:
                await asyncio.Event().wait()
            if self.gate is not None:
                await self.gate.wait()
            yield json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode()
        yield json.dumps({"choices": [], "usage": usage}).encode()

    async def wait(self) -> None:
        assert self.ended is not None
        await self.ended.wait()

    def kill(self) -> None:
        self.killed = True


@dataclass
class World:
    """Everything but the worker. `policy` is in force at the broker."""

    folder: Path
    lease_seconds: int = 60
    owner: Any = field(default_factory=generate_p256)
    settings: Mapping[str, str | int] = field(default_factory=lambda: SETTINGS)

    def __post_init__(self) -> None:
        self.installation = Installation.create(self.folder / "sim", now=int(time.time()))
        self.anchor_file = self.folder / "sim" / "root.pem"
        self.anchors = (installation_anchor("tdx", self.installation.root_pem),)
        self.broker: Broker = open_broker(
            self.folder / "broker", anchors=self.anchors, owners=[self.owner.public_key()], profile="development"
        )
        self.server = BackgroundServer(broker_app(self.broker))

    def open(self) -> None:
        self.server.__enter__()
        self.configuration = Configuration("inference", self.broker.identity.fingerprint, self.settings, None)
        self.admin = self.broker_client(identity=self.owner)
        self.admin.create_key("model", "policy")
        self.artifact = self.seal("model", b"GGUF canary-weights")
        self.policy = self.make_policy()
        self.admin.put_policy(sign_policy(self.policy, self.owner))

    def close(self) -> None:
        self.server.__exit__(None, None, None)
        self.broker.store.close()

    def broker_client(self, **options: Any) -> BrokerClient:
        return BrokerClient(self.server.url, fingerprint=self.broker.identity.fingerprint, **options)

    def seal(self, tag: str, content: bytes, *, key: str = "model", kind: ArtifactKind = ArtifactKind.MODEL) -> str:
        source = self.folder / f"plain-{tag}"
        source.mkdir()
        (source / "model.gguf").write_bytes(content)

        def wrap(of: Edition, data_key: bytes) -> KeyWrap:
            return KeyWrap(self.admin.wrap(key, of, data_key), ())

        registry, _ = from_reference(f"dir:{self.folder / 'registry'}")
        return seal(source, registry, kind=kind, wrap=wrap, signer=self.owner, tag=tag).digest

    def make_policy(self, **changed: Any) -> Policy:
        reference = reference_for(IMAGE)
        made = replace(
            template("policy", references=[reference], artifacts=[self.artifact], simulated=True),
            configuration=Requirement(one_of=(self.configuration.digest,)),
            lease_seconds=self.lease_seconds,
        )
        return replace(made, **changed)

    def opener(self, tag: str = "model") -> Opener:
        return Opener(*from_reference(f"dir:{self.folder / 'registry'}:{tag}"), signer_public=self.owner.public_key())

    def place(self, **chip: Any) -> Place:
        device = Chip(self.installation, **({"mrtd": mrtd_for(IMAGE)} | chip))
        return Place("tdx", device, lambda: self.installation.bundle(int(time.time())), IMAGE, None)

    def client(self, url: str, **changed: Any) -> Client:
        trust = {
            "policy": self.policy,
            "anchor": self.anchor_file,
            "broker": self.broker.identity.fingerprint,
            "accept_simulated": True,
        }
        return Client(url, **(trust | changed))

    @contextmanager
    def serving(self, engine: EchoEngine | None = None, **options: Any) -> Iterator["Served"]:
        """A worker that serves, on a thread of its own; stopped at the end."""
        served = Served(self, engine or EchoEngine(), options)
        served.start()
        try:
            yield served
        finally:
            served.stop()

    @contextmanager
    def serving_models(self, models: Mapping[str, str], **options: Any) -> Iterator[tuple["Served", list[EchoEngine]]]:
        """A worker that serves the sealed `models` (name: tag), each in an engine of its own."""
        inputs = [self.opener(tag) for tag in models.values()]
        pinned = Requirement(one_of=tuple(opener.digest for opener in inputs))
        self.policy = replace(self.policy, artifacts=pinned, version=self.policy.version + 1)
        self.admin.put_policy(sign_policy(self.policy, self.owner))
        served, engines = Served(self, EchoEngine(), {}), [EchoEngine() for _ in models]
        each = zip(models, engines, strict=True)
        made = [Model({"name": name}, lambda engine=engine: engine) for name, engine in each]  # type: ignore[misc]
        carried = front("127.0.0.1", 0, served._serves)
        served._options |= {
            "workload": InferenceWorkload.of(made, carried, **options),
            "inputs": inputs,
        }
        served.start()
        try:
            yield served, engines
        finally:
            served.stop()


class Served:
    """A living worker: `url` once it serves, `states` it went through, `error` it ended with."""

    def __init__(self, world: World, engine: EchoEngine, options: dict[str, Any]) -> None:
        self.engine = engine
        self.states: list[State] = []
        self.url = ""
        self.error: BaseException | None = None
        self._ready, self._ended = threading.Event(), threading.Event()
        self._world, self._options = world, options
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(WAIT)

    def stop(self) -> None:
        if not self._ended.is_set():
            self.loop.call_soon_threadsafe(self.worker.stop)
        assert self.ended()

    def ended(self) -> bool:
        """Whether it has ended by itself within the time a test waits."""
        self._thread.join(WAIT)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            self.error = error
        finally:
            self._ended.set()
            self._ready.set()

    async def _live(self) -> None:
        world, options = self._world, self._options
        self.loop = asyncio.get_running_loop()
        workload: Workload = options.get("workload") or InferenceWorkload(
            self.engine,  # type: ignore[arg-type]
            SETTINGS,
            front(
                "127.0.0.1",
                options.get("port", 0),
                self._serves,
                within=options.get("within"),
                linger=options.get("linger", 0.0),
                around=options.get("around"),
                **options.get("front", {}),
            ),
            slots=options.get("slots", 1),
            queue=options.get("queue", 16),
            pacing=options.get("pacing"),
        )
        self.worker = Worker(
            workload,
            place=options.get("place") or world.place(),
            broker=options.get("broker") or world.broker_client(),
            configuration=options.get("configuration") or world.configuration,
            inputs=options.get("inputs") or [options.get("opener") or world.opener()],
            again=options.get("again"),
            clock=lambda: int(time.time()),
            boot=options.get("boot") or time.monotonic,
            report=lambda state, _: self.states.append(state),
        )
        await self.worker.live()

    def _serves(self, url: str) -> None:
        self.url = url
        self._ready.set()


@contextmanager
def world(folder: Path, **options: Any) -> Iterator[World]:
    """A world that is closed however the test ends."""
    made = World(folder, **options)
    made.open()
    try:
        yield made
    finally:
        made.close()
