"""A model's plaintext, for as long as it must be there.

An engine gets descriptors of sealed memfds. Afterwards the worker lets go of its own (`Keep.NOTHING`), keeps them, so that a crashed engine
starts again without a new release (`Keep.PLAIN`: the engine maps the same pages, so this costs no second copy), or keeps the sealed
artifact with its data key and decrypts again each time (`Keep.SEALED`: models take turns in the memory).

Knows: where plaintext lies and when it goes. Does not know: engines. Decrypting runs on a thread; nobody can stop a thread, so it looks
for itself whether everything was wiped meanwhile.
"""

from __future__ import annotations

import enum
import functools
import os
import threading
from collections.abc import Callable, Sequence

from strongroom.errors import EngineUnavailable
from strongroom.sealed.open import OpenedArtifact


class Keep(enum.Enum):
    """What stays with the worker while an engine has the model."""

    NOTHING = "nothing"
    PLAIN = "plain"
    SEALED = "sealed"


class Weights:
    """The files of one model. `take` once, then `files` as often as `keep` allows; `wipe` at the end, from anywhere."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self._lock, self._wiped = threading.Lock(), False
        self._artifact: OpenedArtifact | None = None
        self._paths: tuple[str, ...] = ()
        self._files: dict[str, int] = {}
        self._beside: list[int] = []

    def take(
        self, artifact: OpenedArtifact, paths: tuple[str, ...], beside: Sequence[tuple[OpenedArtifact, str]] = ()
    ) -> None:
        """The files at `paths` of `artifact` are the model, those `beside` it its adapters.

        What is decrypted now, or the artifact itself, belongs to this object.
        """
        self._paths = paths
        for adapter, path in beside:
            self._hold(adapter.into_memfd(path, progress=self._go_on), self._beside.append)
        if self.keep is Keep.SEALED:
            with self._lock:
                self._artifact = artifact.moved()
            self._go_on(0, 0)
        else:
            self._decrypt(artifact)

    def files(self) -> dict[str, int]:
        """Descriptors by path, decrypted anew where need be; they stay this object's. Raises `EngineUnavailable` if there are none."""
        if not self._files and self._artifact is not None:
            self._decrypt(self._artifact)
        with self._lock:
            if not self._files:
                raise EngineUnavailable("the model's plaintext is gone")
            return dict(self._files)

    def beside(self) -> list[int]:
        """Descriptors of the adapters, in their order; they stay this object's."""
        with self._lock:
            return list(self._beside)

    def handed_over(self) -> None:
        """An engine has it, or will not have it."""
        if self.keep is not Keep.PLAIN:
            self._close()

    def wipe(self) -> None:
        """Close what is open and overwrite the data key. Never fails, also when called twice."""
        self._wiped = True
        self._close()
        with self._lock:
            artifact, self._artifact = self._artifact, None
        if artifact is not None:
            artifact.close()

    def _decrypt(self, artifact: OpenedArtifact) -> None:
        for path in self._paths:
            descriptor = artifact.into_memfd(path, progress=self._go_on)
            self._hold(descriptor, functools.partial(self._files.__setitem__, path))

    def _hold(self, descriptor: int, put: Callable[[int], None]) -> None:
        with self._lock:
            late = self._wiped
            if not late:
                put(descriptor)
        if late:
            os.close(descriptor)
            self._go_on(0, 0)

    def _go_on(self, _done: int, _total: int) -> None:
        if self._wiped:
            self.wipe()
            raise EngineUnavailable("the worker was wiped while its model was being opened")

    def _close(self) -> None:
        with self._lock:
            descriptors, self._files, self._beside = [*self._files.values(), *self._beside], {}, []
        for descriptor in descriptors:
            os.close(descriptor)
