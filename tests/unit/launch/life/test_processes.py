"""Processes that are told apart from those that have their number later; and QEMU's monitor, honest or not."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from strongroom.errors import HypervisorUnavailable
from strongroom.launch.life import processes, qmp

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\n'


@contextmanager
def sleeping(*words):
    code = "import sys,time; print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_process_is_itself_until_it_ends():
    with sleeping() as process:
        found = processes.identify(process.pid)
        assert processes.alive(found)
        assert not processes.wait(found, 0.01)
        for other in (replace(found, started=found.started + 1), replace(found, boot="another boot")):
            assert not processes.alive(other)
            assert not processes.end(other, seconds=1), "what has the number now is somebody else"
            assert processes.wait(other, 1)
        assert processes.alive(found)
        assert processes.end(found, seconds=10)
        assert not processes.alive(found), "also before its parent has heard of it"
        assert processes.identify(process.pid) is None
    assert not processes.end(found, seconds=1)


def test_a_process_that_does_not_listen_is_killed():
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert processes.end(processes.identify(process.pid), seconds=0.2)
        assert process.wait() == -signal.SIGKILL


def test_a_process_is_found_by_a_whole_word_of_its_arguments():
    program = os.path.basename(sys.executable)  # noqa: PTH119 (the name as it was called)
    with sleeping("a-word-of-ours/qemu.pid") as process:
        found = processes.with_word(program, "a-word-of-ours/qemu.pid")
        assert [one.pid for one in found] == [process.pid]
        assert processes.with_word(program, "word-of-ours/qemu.pid") == ()
        assert processes.with_word("another", "a-word-of-ours/qemu.pid") == ()


@contextmanager
def answering(path, *answers, read=True):
    """A monitor that greets with its first answer and gives one more for each line."""
    asked = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve():
            connection, _ = listening.accept()
            with contextlib.suppress(OSError), connection, connection.makefile("rwb") as file:  # we hang up on liars
                for number, answer in enumerate(answers):
                    if number and read:
                        asked.append(json.loads(file.readline()))
                    file.write(answer)
                    file.flush()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(10)


def test_a_command_is_answered_between_events(tmp_path):
    event = b'{"event": "STOP"}\n'
    with (
        answering(
            tmp_path / "q", GREETING, b'{"return": {}}\n', event * 3 + b'{"return": {"status": "running"}}\n'
        ) as asked,
        qmp.Monitor(tmp_path / "q") as monitor,
    ):
        assert monitor.ask("query-status") == {"status": "running"}
    assert [one["execute"] for one in asked] == ["qmp_capabilities", "query-status"]


@pytest.mark.parametrize(
    "answers",
    [
        (b"SSH-2.0\n",), (b'{"hello": 1}\n',), (b"[1]\n",), (b"",), (GREETING, b'{"error": {"desc": "no"}}\n'),
        (b"[" * 100_000 + b"\n",), (GREETING, b'{"event": 1}\n' * 300), (b"x" * (3 << 20),),
    ],
    ids=["not JSON", "no greeting", "no object", "hung up", "refused", "deep", "only events", "endless line"],
)  # fmt: skip
def test_who_does_not_speak_as_qemu_does_is_unavailable(tmp_path, answers):
    with (
        answering(tmp_path / "q", *answers),
        pytest.raises(HypervisorUnavailable),
        qmp.Monitor(tmp_path / "q", seconds=1),
    ):
        raise AssertionError


def test_nobody_there_is_unavailable(tmp_path):
    with pytest.raises(HypervisorUnavailable), qmp.Monitor(tmp_path / "q"):
        raise AssertionError
