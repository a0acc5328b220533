"""Inside a job's process: confine, lay out what the worker hands over, run the code once, hand over what it made.

What the code finds: the current folder, in memory, with `inputs/<n>/<path>` (copies of its own), an empty `outputs/`, and the code
itself, whose path with the job's arguments is `sys.argv`. What it prints goes to two files beside, which become `stdout.txt` and
`stderr.txt` of the outputs. It can import the standard library and what is installed in the worker; it cannot reach a network,
start a process, or read any other file. A job ends when its script or function returns; its threads and exit handlers are not
waited for.

Knows: the order. Does not know: keys, recipients, limits of time and size; the worker holds those. The code runs in this very
process and may say on the socket what it likes: the worker believes nothing that it could not have put into its outputs anyway.
"""

from __future__ import annotations

import os
import runpy
import shutil
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from strongroom.engines.confine import Bounds, confine, python_paths
from strongroom.workloads.job.link import Link, Message

OPEN_FILES = 1024
INPUTS, OUTPUTS = "inputs", "outputs"
STREAMS = ("stdout", "stderr")
SCRIPT, WHEEL = "job.py", "job.whl"


def main(control: int, arguments: list[str]) -> NoReturn:
    """The process's whole life. `arguments` hold the size of its memory file system in bytes."""
    bounds = Bounds(control=control, readable=python_paths(), scratch_bytes=int(arguments[0]), open_files=OPEN_FILES)
    confined = confine(bounds)
    link = Link(socket.socket(fileno=control))
    try:
        link.send("hello", {"confinement": dict(confined.report.outcomes)})
        serve(link, Path(confined.scratch))
    finally:
        os._exit(0)  # nothing that the job left behind gets to run


def serve(link: Link, place: Path) -> None:
    """Take inputs until told to run; then run, hand over the outputs, and be done."""
    while (message := link.receive()) is not None:
        os.chdir(place)
        Path(OUTPUTS).mkdir(exist_ok=True)
        if message.kind == "run":
            run(link, message)
            return
        _write(message, Path(INPUTS, message.text("path")))
        link.send("taken", {})


def run(link: Link, message: Message) -> None:
    """Run the code, and say what came of it."""
    entry = message.text("entry")
    code = Path(WHEEL if entry else SCRIPT)
    _write(message, code)
    for number, name in enumerate(STREAMS, start=1):
        _redirect(link, number, name)
    sys.argv = [str(code.absolute()), *message.members["arguments"]]
    well = _call(code.absolute(), entry)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    link.send("end", {"well": _hand_over(link) and well})


def _write(message: Message, target: Path) -> None:
    """A copy, so that the code has ordinary files; the worker frees its own as soon as this one is taken."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(message.take(), "rb") as source, target.open("xb") as copy:
        os.lseek(source.fileno(), 0, os.SEEK_SET)
        shutil.copyfileobj(source, copy, 1 << 20)


def _redirect(link: Link, number: int, name: str) -> None:
    """Let a standard stream end in a file, which the worker holds from now on: what is printed outlives this process."""
    written = os.open(f".{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    os.dup2(written, number)
    os.close(written)
    with Path(f".{name}").open("rb") as readable:
        link.send("stream", {"path": f"{name}.txt"}, readable.fileno())
    getattr(sys, name).reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _call(code: Path, entry: str) -> bool:
    """Whether the code ended well, as the exit code of a command would tell."""
    try:
        if entry:
            sys.path.insert(0, str(code))
            module, function = entry.split(":")
            ended = getattr(import_module(module), function)()
        else:
            ended = None
            runpy.run_path(str(code), run_name="__main__")
    except SystemExit as asked:
        ended = asked.code
    except BaseException:  # noqa: BLE001  # whatever it is, it is the job's own, and told to its recipients alone
        traceback.print_exc()
        return False
    if isinstance(ended, str):
        print(ended, file=sys.stderr)  # noqa: T201  # as the interpreter does
    return ended is None or ended == 0


def _hand_over(link: Link) -> bool:
    try:
        for path in sorted(path for path in Path(OUTPUTS).rglob("*") if not path.is_dir()):
            with path.open("rb") as file:
                link.send("output", {"path": path.relative_to(OUTPUTS).as_posix()}, file.fileno())
    except Exception:  # noqa: BLE001  # a name that is no text, a file that nobody may read
        traceback.print_exc()
        return False
    return True
