"""Processes that are told apart from those that have their number later; and QEMU's monitor, honest or not."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import launching
import pytest

from strongroom.errors import HypervisorUnavailable
from strongroom.launch.life import processes, qmp
from strongroom.launch.life.drivers import qemu
from strongroom.launch.life.drivers.qemu import TPM, Qemu
from strongroom.launch.place import Place
from strongroom.launch.qemu import PROGRAM

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\n'


@contextmanager
def sleeping(*words, name=sys.executable):
    """A process that is called by this name and these words."""
    code = "import sys,time; print(flush=True); time.sleep(600)"
    command = [name, "-c", code, *words]
    with subprocess.Popen(command, executable=sys.executable, stdout=subprocess.PIPE) as process:
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
            assert processes.end(other, seconds=1), "what has the number now is somebody else"
            assert processes.wait(other, 1)
        assert processes.alive(found)
        assert processes.end(found, seconds=10)
        assert not processes.alive(found), "also before its parent has heard of it"
        assert processes.identify(process.pid) is None
    assert processes.end(found, seconds=1)


def test_a_process_that_does_not_end_is_not_said_to_have_ended(monkeypatch):
    with sleeping() as process:
        found = processes.identify(process.pid)
        with monkeypatch.context() as patched:
            patched.setattr(signal, "pidfd_send_signal", lambda *_: None)  # as while a driver keeps it in the kernel
            assert not processes.end(found, seconds=0.01)
        assert processes.alive(found)


def test_without_a_descriptor_nobody_says_that_a_process_has_ended(monkeypatch):
    def full(_pid):
        raise OSError(errno.EMFILE, "Too many open files")

    with sleeping() as process:
        found = processes.identify(process.pid)
        monkeypatch.setattr(os, "pidfd_open", full)
        for ask in (lambda: processes.end(found, seconds=0.01), lambda: processes.wait(found, 0.01)):
            with pytest.raises(HypervisorUnavailable, match="cannot be looked at"):
                ask()


@pytest.mark.parametrize(
    ("program", "word", "said"),
    [(PROGRAM, "{}/qemu.pid", "QEMU"), (TPM, "file={}/swtpm.pid", "the software TPM")],
    ids=["QEMU", "swtpm"],
)
def test_a_machine_that_does_not_end_is_not_said_to_be_killed(tmp_path, monkeypatch, program, word, said):
    spec, place = launching.TPM, Place(images=tmp_path, state=tmp_path)
    for name in ("QUIT_SECONDS", "TPM_SECONDS"):
        monkeypatch.setattr(qemu, name, 0.01)
    with sleeping(word.format(tmp_path), name=program):
        assert Qemu().find(spec, place) is not None
        with monkeypatch.context() as patched:
            patched.setattr(signal, "pidfd_send_signal", lambda *_: None)
            with pytest.raises(HypervisorUnavailable, match=f"{said} does not end"):
                Qemu().drain(spec, place, 0.01)
        assert Qemu().drain(spec, place, 0.01) == ("killed" if program == PROGRAM else "not running")
        assert Qemu().find(spec, place) is None


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


def test_a_strangers_process_is_none_of_ours_whatever_it_calls_itself(monkeypatch):
    program = os.path.basename(sys.executable)  # noqa: PTH119 (the name as it was called)
    with sleeping("a-word-of-ours/qemu.pid"):
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert processes.with_word(program, "a-word-of-ours/qemu.pid") == ()


def test_a_process_that_we_may_not_end_is_said_to_be_one(monkeypatch):
    def forbidden(descriptor, number):
        raise PermissionError(descriptor, number)

    with sleeping() as process:
        found = processes.identify(process.pid)
        with monkeypatch.context() as patched:
            patched.setattr(signal, "pidfd_send_signal", forbidden)
            with pytest.raises(HypervisorUnavailable, match="another account"):
                processes.end(found, seconds=1)
        assert processes.alive(found)


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
