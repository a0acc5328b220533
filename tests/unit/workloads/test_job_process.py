"""A job's child, real and confined, without the rest of a worker."""

import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.crypto.hpke import ReleaseKey
from strongroom.errors import ConfinementUnavailable, EngineUnavailable
from strongroom.records.digest import digest_bytes
from strongroom.records.job import JobSpec
from strongroom.workloads.job.process import MAX_OUTPUTS, JobProcess
from strongroom.workloads.job.workload import memory_file

RECIPIENT = ReleaseKey.generate().public
FIND_THE_SOCKET = """
import os, socket, stat
number = next(n for n in range(3, 1000) if os.path.exists(f"/proc/self/fd/{n}") and stat.S_ISSOCK(os.fstat(n).st_mode))
wire = socket.socket(fileno=number)
"""


@pytest.fixture
def process() -> Iterator[JobProcess]:
    made = JobProcess()
    made.spawn(1 << 24)
    try:
        made.hello()
    except ConfinementUnavailable as missing:
        made.wipe()
        pytest.skip(f"this account cannot confine a child: {missing.detail}")
    yield made
    made.wipe()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def run(process: JobProcess, code: bytes | str, entry: str = "", *arguments: str) -> bool:
    data = code.encode() if isinstance(code, str) else code
    spec = JobSpec("test", digest_bytes(data), entry, (digest_bytes(b""),), arguments, (RECIPIENT,), 60, 1 << 20)
    file = memory_file(data)
    try:
        return process.run(spec, file)
    finally:
        os.close(file)


def put(process: JobProcess, path: str, content: bytes) -> None:
    file = memory_file(content)
    try:
        process.put(path, file)
    finally:
        os.close(file)


def made_by(process: JobProcess) -> dict[str, bytes]:
    process.kill()
    with process.files() as (streams, outputs):
        return {path: os.pread(file, 1 << 20, 0) for path, file in (*streams, *outputs)}


def wheel(files: dict[str, str]) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return kept.getvalue()


def test_a_script_reads_its_inputs_and_leaves_outputs(process: JobProcess):
    put(process, "0/deep/er/a.txt", b"one")
    put(process, "1/b.txt", b"two")
    assert run(
        process,
        "import pathlib, sys\n"
        "assert __name__ == '__main__'\n"
        "parts = [path.read_text() for path in sorted(pathlib.Path('inputs').rglob('*.txt'))]\n"
        "pathlib.Path('outputs/x').mkdir()\n"
        "pathlib.Path('outputs/x/y').write_text(' '.join(parts + sys.argv[1:]))\n"
        "print('ünder way'); print('watch out', file=sys.stderr)\n",
        "",
        "three",
    )
    assert made_by(process) == {
        "stdout.txt": "ünder way\n".encode(),
        "stderr.txt": b"watch out\n",
        "x/y": b"one two three",
    }


def test_a_wheel_runs_by_its_entry(process: JobProcess):
    package = wheel({"tool/__init__.py": "", "tool/work.py": "def main():\n    import csv\n    print('worked')\n"})
    assert run(process, package, "tool.work:main")
    assert made_by(process)["stdout.txt"] == b"worked\n"


@pytest.mark.parametrize(
    ("code", "well"),
    [
        ("import sys; sys.exit()", True),
        ("import sys; sys.exit(0)", True),
        ("import sys; sys.exit(3)", False),
        ("import sys; sys.exit('no more')", False),
        ("1 / 0", False),
        ("this is not Python", False),
        ("raise KeyboardInterrupt", False),
        ("import os; os._exit(0)", False),
        ("import os; os.abort()", False),
    ],
)
def test_a_job_ended_well_only_if_it_says_so(process: JobProcess, code: str, well: bool):  # noqa: FBT001
    assert run(process, code) is well


@pytest.mark.parametrize(
    ("entry", "text"), [("tool:missing", "def main(): ..."), ("other:main", ""), ("tool:main", "main = 3")]
)
def test_an_entry_that_is_not_there_is_a_failure(process: JobProcess, entry: str, text: str):
    assert not run(process, wheel({"tool.py": text}), entry)
    assert b"Error" in made_by(process)["stderr.txt"]


def test_a_job_reaches_neither_network_nor_processes_nor_files_of_the_machine(process: JobProcess):
    assert run(
        process,
        """
import json, os, socket, subprocess

def attempt(work):
    try:
        work()
    except OSError as error:
        return "refused"
    return "allowed"

json.dump({
    "connect": attempt(lambda: socket.create_connection(("127.0.0.1", 9), 1)),
    "listen": attempt(lambda: socket.create_server(("127.0.0.1", 0))),
    "local": attempt(lambda: socket.socket(socket.AF_UNIX)),
    "fork": attempt(os.fork),
    "command": attempt(lambda: subprocess.run(["/bin/true"])),
    "passwords": attempt(lambda: open("/etc/passwd")),
    "home": attempt(lambda: os.listdir(os.path.expanduser("/home"))),
    "root": attempt(lambda: open("/here", "w")),
    "signal": attempt(lambda: os.kill(os.getppid(), 9)),
}, open("outputs/report", "w"))
json.dump(dict(os.environ), open("outputs/environment", "w"))
""",
    )
    made = made_by(process)
    assert set(json.loads(made["report"]).values()) == {"refused"}
    assert set(json.loads(made["environment"])) <= {"LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TZ"}


def test_what_a_job_printed_outlives_its_being_killed(process: JobProcess):
    ended: list[bool] = []
    thread = threading.Thread(
        target=lambda: ended.append(run(process, "print('so far'); open('ready', 'w')\nwhile 1: pass"))
    )
    thread.start()
    while not any(os.fstat(file).st_size for _, file in process._streams.held):
        assert thread.is_alive()
    process.kill()
    thread.join(timeout=60)
    assert ended == [False]
    assert made_by(process)["stdout.txt"] == b"so far\n"


@pytest.mark.parametrize(
    "said",
    [
        "wire.sendall(bytes(5))",
        "wire.sendall(bytes([255]) * 64)",
        "import json; t = json.dumps({'kind': 'wish'}).encode(); wire.sendall(len(t).to_bytes(4, 'big') + b'\\0' + t)",
        "import json; t = json.dumps({'kind': 'end', 'well': 1}).encode(); wire.sendall(len(t).to_bytes(4, 'big') + b'\\0' + t)",
        "wire.shutdown(socket.SHUT_RDWR)",
    ],
)
def test_a_job_that_speaks_for_itself_fails(process: JobProcess, said: str):
    assert not run(process, f"{FIND_THE_SOCKET}\n{said}\nwhile True: pass")


def test_a_job_cannot_fill_the_worker_with_open_files(process: JobProcess):
    before = open_files()
    assert not run(process, f"for n in range({MAX_OUTPUTS}): open(f'outputs/{{n}}', 'w').close()")
    assert open_files() <= before + MAX_OUTPUTS
    process.wipe()
    assert open_files() < before


def test_an_input_larger_than_the_jobs_memory_ends_in_a_typed_error(process: JobProcess):
    with pytest.raises(EngineUnavailable):
        put(process, "0/large", bytes(1 << 25))


def test_a_process_is_spawned_once_and_wiped_as_often_as_anybody_likes(process: JobProcess):
    with pytest.raises(EngineUnavailable):
        process.spawn(1)
    process.wipe()
    process.wipe()
    with pytest.raises(EngineUnavailable):
        put(process, "0/a", b"")
    assert not run(process, "")


def test_a_process_that_was_never_spawned_can_be_wiped():
    made = JobProcess()
    made.wipe()
    with pytest.raises(EngineUnavailable):
        made.hello()
