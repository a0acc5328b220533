"""A registry of our own, and hurried clients of it that count how long they would have waited."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from oci_service import OciService, served

from strongroom.records.digest import Digest, digest_bytes
from strongroom.sealed.registries.oci.address import parse_reference
from strongroom.sealed.registries.oci.registry import OciRegistry
from strongroom.sealed.registries.oci.transport import Backoff, Http
from strongroom.sealed.registries.port import write_small

NAME = "team/model"


class Client:
    """Makes registries that wait for nothing; `waits` says how long they would have."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.now = 1000.0
        self.opened: list[Http] = []

    def http(self, *, attempts: int = 4, timeout: float = 5.0, deadline: float = 60.0) -> Http:
        made = Http(
            backoff=Backoff(attempts, 1.0, 30.0),
            sleep=self.waits.append,
            clock=lambda: self.now,
            timeouts=(timeout, timeout),
            deadline=deadline,
        )
        self.opened.append(made)
        return made

    def registry(self, place: str, environ: dict[str, str] | None = None, **options: float) -> OciRegistry:
        addresses, _ = parse_reference(f"oci://{place}/{NAME}", environ or {})
        return OciRegistry(addresses, http=self.http(**options), environ=environ or {})


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    for http in made.opened:
        http.close()


@pytest.fixture
def start() -> Iterator[Callable[[OciService], OciService]]:
    """Starts a service, and stops it when the test ends."""
    with ExitStack() as stack:
        yield lambda service: stack.enter_context(served(service))


@pytest.fixture
def service(start: Callable[[OciService], OciService]) -> OciService:
    return start(OciService())


@pytest.fixture
def registry(client: Client, service: OciService) -> OciRegistry:
    return client.registry(service.place)


@pytest.fixture
def blob(registry: OciRegistry, service: OciService) -> tuple[Digest, bytes]:
    """A blob that is there; what putting it there asked is forgotten."""
    data = bytes(range(256)) * 40
    digest = write_small(registry, data)
    service.seen.clear()
    assert digest == digest_bytes(data)
    return digest, data


def logged_in(folder: Path, place: str, user: str = "ann", password: str = "rain") -> dict[str, str]:  # noqa: S107
    """The environment of somebody who is logged in."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {place: {"auth": auth}}}))
    return {"DOCKER_CONFIG": str(folder)}


@pytest.fixture
def log_in(tmp_path: Path) -> Callable[..., dict[str, str]]:
    return lambda place, **who: logged_in(tmp_path, place, **who)
