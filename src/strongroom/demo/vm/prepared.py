"""A machine that is ready to be launched again and again, for who measures it: owner, broker, image and policy are there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.demo.model import fetch_model
from strongroom.demo.screen import Silent
from strongroom.demo.vm.site import Kept, site
from strongroom.demo.vm.story import Story
from strongroom.launch.life.attest import WorkerAttest


@contextmanager
def prepared(parts: Path, driver_name: str = "qemu") -> Iterator[tuple[Kept, WorkerAttest]]:
    """The machine of the story, not started, and who asks it; `parts` as in `story`."""
    fetch_model()
    with site(driver_name) as made:
        story = Story(made, Silent(), parts)
        artifact = story.owner_prepares()
        *_, good = story.builder_builds()
        policy, _ = story.owner_admits(artifact, good)
        yield good, made.attest(good, policy)
