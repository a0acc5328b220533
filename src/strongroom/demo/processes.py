"""Real processes: each part of the demo is the command line itself, in a process of its own.

Knows: how to start a command, wait for a line of its JSON, and end it. Does not know: the story. Whatever happens, every process
that was started is ended, by its id.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom.errors import Unavailable

START_SECONDS = 60.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit code and the one JSON document it printed."""

    code: int
    document: dict[str, Any]

    @property
    def error(self) -> str:
        """The code of our error, or an empty text."""
        error = self.document.get("error")
        return str(error.get("code", "")) if isinstance(error, dict) else ""


def command(*words: str | Path) -> list[str]:
    """The command line of strongroom, with `--json`."""
    return [sys.executable, "-m", "strongroom", *map(str, words), "--json"]


def run(*words: str | Path) -> Outcome:
    """Run a command to its end."""
    done = subprocess.run(command(*words), capture_output=True, check=False, timeout=START_SECONDS * 2)
    return Outcome(done.returncode, last_document(done.stdout))


def must(*words: str | Path) -> dict[str, Any]:
    """Run a command that has to succeed. Raises `Unavailable` with what it said."""
    outcome = run(*words)
    if outcome.code != 0:
        raise Unavailable(
            f"`strongroom {words[0]}` ended with {outcome.code}", remedy=json.dumps(outcome.document)[:2000]
        )
    return outcome.document


def last_document(text: bytes) -> dict[str, Any]:
    """The last JSON object in an output: the whole of it, or its last line."""
    for candidate in (text, text.strip().rsplit(b"\n", 1)[-1]):
        try:
            document = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(document, dict):
            return document
    start = text.rfind(b"\n{\n")
    try:
        document = json.loads(text[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def environment(place: Path | None) -> dict[str, str]:
    """This process's environment, with its home and its temporary files at `place`."""
    if place is None:
        return dict(os.environ)
    return {**os.environ, "HOME": str(place), "TMPDIR": str(place), "XDG_CACHE_HOME": str(place)}


class Process:
    """A running command. Its output goes to `log` as well, for the hunt for canaries."""

    def __init__(self, words: Sequence[str], log: Path, place: Path | None = None) -> None:
        """`place` becomes working, home and temporary folder of the process, if it is given."""
        self.log = log
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._output = bytearray()
        self.process = subprocess.Popen(
            list(words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=place,
            env=environment(place),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        with self.log.open("ab") as log:
            for line in stream:
                log.write(line)
                log.flush()
                self._output += line
                self._lines.put(line)
        self._lines.put(None)

    def line(self, **wanted: str) -> dict[str, Any]:
        """The next line of JSON that has these members. Raises `Unavailable` if the process ends or stays silent."""
        while True:
            try:
                line = self._lines.get(timeout=START_SECONDS)
            except queue.Empty:
                raise Unavailable("a process of the demo does not answer", detail=self.log.name) from None
            if line is None:
                self._lines.put(None)
                raise Unavailable(
                    "a process of the demo ended early",
                    detail=self.log.name,
                    remedy=json.dumps(self.outcome().document)[:2000],
                )
            try:
                document = json.loads(line)
            except ValueError:
                continue
            if isinstance(document, dict) and all(document.get(name) == value for name, value in wanted.items()):
                return document

    def outcome(self) -> Outcome:
        """Wait for the end. Raises `Unavailable` if there is none."""
        try:
            code = self.process.wait(timeout=START_SECONDS * 2)
        except subprocess.TimeoutExpired:
            raise Unavailable("a process of the demo does not end", detail=self.log.name) from None
        self._reader.join(timeout=STOP_SECONDS)
        return Outcome(code, last_document(bytes(self._output)))

    def stop(self) -> None:
        """End it in order, or else at once."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self._reader.join(timeout=STOP_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
