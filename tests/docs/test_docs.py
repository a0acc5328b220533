"""The documentation is true: every example runs, every reference page is what the code says, every link leads somewhere.

Examples are fenced blocks. `console`: lines after `$ ` (and `> `, its continuation) are run in a shell; the lines below a command
must occur in its output, where `…` stands for anything; a command that ends in `&` stays until the document ends; one that fails
is followed by `$ echo $?`. `python` runs in a process of its own, `toml` is a policy, `json` parses, `text` is only read.
A block whose first line starts with `# by hand:` is not run; those are counted.
"""

import importlib.util
import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from strongroom import errors
from strongroom.appraisal.policies import from_toml, template
from strongroom.demo.attacks import attacks
from strongroom.launch.doctor import CHECKS as HOST_CHECKS
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.policy import Reference
from strongroom.records.travelling import TRAVELLING
from strongroom.release.roles import Verb
from strongroom_sim import Installation
from strongroom_sim.cca import CcaPlatform
from strongroom_sim.nitro import NitroCloud
from strongroom_sim.snp import SnpInstallation
from strongroom_sim.subjects import Hardware, subjects
from strongroom_sim.tpm import TpmMaker

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(p for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("changelog.d/*.md")))
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BY_HAND = "# by hand:"
PORT = re.compile(r"(?<=127\.0\.0\.1:)8\d{3}\b")
GATEWAY = "10.0.2.2"
"""The host, as a guest of QEMU's user network sees it."""
HOSTS = {"127.0.0.1", "example.org", "localhost", "HOST", GATEWAY}
SPECIFICATIONS = {"github.com", "developers.google.com", "model_signing", "arm.com", "in-toto.io", "slsa.dev"}
"""Where formats that are not ours are specified; nothing is fetched from there."""


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@dataclass
class Command:
    """A command as a person types it, and the lines that its output must hold."""

    text: str
    expected: list[str] = field(default_factory=list)


def blocks(page):
    """The fenced blocks of a page: (language, text)."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def runnable(page):
    return [
        (kind, text) for kind, text in blocks(page) if kind in {"console", "python"} and not text.startswith(BY_HAND)
    ]


def commands(text):
    """The commands of a console block."""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif (
            found and not found[-1].expected and (line == ">" or line.startswith("> ") or found[-1].text.endswith("\\"))
        ):
            found[-1].text += "\n" + line.removeprefix(">").removeprefix(" ")
        elif line.strip() and not line.startswith("#"):
            found[-1].expected.append(line)
    return found


def seen(line, output):
    """Whether a line of a document occurs in an output, `…` and runs of spaces standing for anything of their kind."""
    pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in line.split("…")]
    return re.search(".*?".join(pieces), output) is not None


class Shell:
    """Runs the examples of one document, in order, in one folder."""

    def __init__(self, folder, variables):
        self.folder, self.exports, self.code = folder, [], 0
        self.background, self.ports = [], {}
        programs = folder / ".bin"
        programs.mkdir()
        for name, words in {"strongroom": "-m strongroom", "python": ""}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            (programs / name).chmod(0o755)
        self.environment = {**os.environ, **variables, "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(self, kind, text):
        text = PORT.sub(lambda found: self.ports.setdefault(found[0], free_port()), text)
        if kind == "python":
            self.python(text)
            return
        todo = commands(text)
        for command, following in zip(todo, [*todo[1:], None], strict=True):
            if command.text.endswith("&"):
                self.start(command)
            else:
                self.finish(command, may_fail=following is not None and following.text == "echo $?")

    def python(self, text):
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=self.folder, env=self.environment, capture_output=True, check=False,
            timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout.decode()}\n{done.stderr.decode()}"

    def finish(self, command, *, may_fail):
        script = "\n".join([*self.exports, f"(exit {self.code})", command.text])
        done = subprocess.run(
            ["/bin/bash", "-c", script], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=180,
        )  # fmt: skip
        output = done.stdout.decode()
        self.code = done.returncode
        assert may_fail == (self.code != 0), f"$ {command.text}\nended with {self.code}:\n{output}"
        missing = [line for line in command.expected if not seen(line, output)]
        assert not missing, f"$ {command.text}\nis documented with {missing}, but said:\n{output}"
        if command.text.startswith("export "):
            self.exports.append(command.text)

    def start(self, command):
        """Leave a command running, once it has said all that the document says it says."""
        script = "\n".join([*self.exports, command.text.removesuffix("&")])
        process = subprocess.Popen(
            ["/bin/bash", "-c", script], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.background.append(process)
        output = ""
        while not all(seen(line, output) for line in command.expected):
            line = process.stdout.readline().decode()
            assert line, f"$ {command.text}\nended early:\n{output}"
            output += line

    def close(self):
        for process in reversed(self.background):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.stdout.read()
            process.wait(timeout=30)
            process.stdout.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


@cache
def generator():
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- examples run ---------------------------------------------------------------------------------------------------------


@pytest.mark.needs("model")
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name_of)
def test_every_example_of_a_page_runs(page, request, clean_up):
    text = page.read_text(encoding="utf-8")
    if "$ docker-registry " in text and shutil.which("docker-registry") is None:
        pytest.skip("missing program: docker-registry")
    ends_worker = "leases revoke" in text
    shell = Shell(clean_up, request.getfixturevalue("own" if ends_worker else "live"))
    try:
        for kind, text in runnable(page):
            shell.run(kind, text)
    finally:
        shell.close()


@pytest.mark.needs("model")
@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_every_example_program_runs(example, live, clean_up):
    shell = Shell(clean_up, live)
    shell.python(example.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [page for page in PAGES if any(k == "toml" for k, _ in blocks(page))], ids=name_of)
def test_every_policy_in_a_page_is_read(page):
    for kind, text in blocks(page):
        if kind == "toml":
            assert from_toml(text).references


def test_every_block_is_of_a_known_language_and_json_is_json():
    for page in PAGES:
        for kind, text in blocks(page):
            assert kind in {"console", "python", "toml", "json", "text", ""}, f"{name_of(page)}: {text[:60]}"
            if kind == "json":
                json.loads(text)


def test_blocks_that_are_not_run_are_few_and_say_why():
    found = {}
    for page in PAGES:
        for _, text in blocks(page):
            if text.startswith(BY_HAND):
                assert len(text.splitlines()[0]) > len(BY_HAND) + 10
                found[name_of(page)] = found.get(name_of(page), 0) + 1
    assert found == NOT_RUN


NOT_RUN = {
    "docs/how-to/build-the-worker-image.md": 2,
    "docs/how-to/boot-a-worker-for-real.md": 2,
    "README.md": 2,
    "CONTRIBUTING.md": 1,
    "docs/tutorial.md": 1,
    "docs/how-to/bring-up-a-tdx-host.md": 4,
    "docs/how-to/bring-up-an-snp-host.md": 3,
    "docs/how-to/check-a-host.md": 1,
    "docs/how-to/run-a-broker.md": 3,
    "docs/how-to/use-another-engine.md": 3,
    "docs/how-to/enrol-a-tpm.md": 2,
    "docs/how-to/serve-a-model.md": 1,
    "docs/how-to/sign-and-verify-models.md": 1,
    "docs/how-to/use-any-openai-client.md": 1,
    "docs/how-to/measure-a-launch.md": 2,
    "docs/how-to/launch-a-machine.md": 5,
    "docs/how-to/launch-a-worker-by-hand.md": 7,
}


# --- the examples' own machinery ------------------------------------------------------------------------------------------


@pytest.fixture
def shell(clean_up):
    made = Shell(clean_up, {"WHAT": "rain"})
    yield made
    made.close()


def test_what_a_command_prints_is_compared_with_what_the_page_says(shell):
    shell.run("console", "$ echo there will be $WHAT\n… will be   …\n")
    with pytest.raises(AssertionError, match="is documented with"):
        shell.run("console", "$ echo there will be $WHAT\nthere will be sun\n")


def test_a_command_that_fails_is_a_failure_unless_the_page_says_so(shell):
    shell.run("console", "$ (exit 3)\n$ echo $?\n3\n")
    with pytest.raises(AssertionError, match="ended with 3"):
        shell.run("console", "$ (exit 3)\n$ echo rain\n")
    with pytest.raises(AssertionError, match="ended with 0"):
        shell.run("console", "$ true\n$ echo $?\n0\n")
    with pytest.raises(AssertionError):
        shell.run("python", "raise SystemExit(1)")


def test_a_command_may_go_on_over_lines_and_keep_what_it_exported(shell):
    shell.run(
        "console",
        "$ export DAY=to \\\n  && cat > a <<END\n> one\n>\n> $WHAT\n> END\n$ cat a; echo $DAY\none\nrain\nto\n",
    )
    assert (shell.folder / "a").read_text() == "one\n\nrain\n"


def test_a_service_stays_until_the_page_ends_and_must_say_what_the_page_says(shell):
    shell.run("console", "$ echo up; exec sleep 600 &\nup\n$ true\n")
    assert shell.background[0].poll() is None
    with pytest.raises(AssertionError, match="ended early"):
        shell.run("console", "$ echo up &\ndown\n")
    shell.close()
    assert all(process.poll() is not None for process in shell.background)
    shell.background.clear()


@cache
def every_check():
    """The id of every check that can be made of any kind of evidence: genuine, exposed, wanted, of logs and vouchers."""
    now, folder = 1_790_000_000, Path(tempfile.mkdtemp(prefix="strongroom-docs-"))
    made = Installation.create(folder / "intel", now=now), SnpInstallation.generate(now=now)
    hardware = Hardware(*made, TpmMaker.generate(now=now), NitroCloud.create(now=now), CcaPlatform(), now)
    shutil.rmtree(folder)
    found = set(generator().CHECKS) | {"policy.custody", "tpm.ak.enrolment"} | {check.id for check in HOST_CHECKS}
    found |= {f"{k}.{log}.{w}" for k in ("tdx", "tpm") for log in ("log", "cel") for w in LOG_CHECKS}
    for name, subject in subjects(hardware).items():
        registers = dict.fromkeys(subject.kind.registers, ("00",))
        references = [Reference(digest_bytes(b"image"), name, registers)]
        policy = template("docs", references=references, artifacts=[digest_bytes(b"model")], simulated=True, kind=name)
        genuine = subject.judge(subject.good)
        checks = *genuine.checks, *subject.kind.exposed(genuine), *subject.kind.wanted(genuine, policy)
        found |= {check.id for check in checks}
    return frozenset(found)


LOG_CHECKS = ("parse", "replay", "digests", "events")

# --- reference pages are what the code says -------------------------------------------------------------------------------


def test_generated_pages_are_what_the_code_says():
    stale = [
        name
        for name, text in generator().pages().items()
        if not (generator().REFERENCE / name).is_file()
        or (generator().REFERENCE / name).read_text(encoding="utf-8") != text
    ]
    assert not stale, "run `make reference`"


def test_no_schema_is_published_that_nothing_writes():
    published = {path.stem for path in (ROOT / "docs" / "reference" / "schemas").glob("*.json")}
    assert published == set(TRAVELLING)


def test_every_error_has_a_row():
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    kinds = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, errors.StrongroomError)]
    assert len(kinds) > 20
    for kind in kinds:
        assert f"| `{kind.code}` | {kind.exit_code} | `{kind.__name__}` |" in text


def test_every_command_is_documented():
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for words, _ in generator().every_command():
        assert f"# {' '.join(words)}\n" in text


def test_every_record_has_a_row():
    text = (ROOT / "docs" / "reference" / "records.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "src" / "strongroom" / "records").glob("*.py")):
        module = importlib.import_module(f"strongroom.records.{path.stem}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and codec.record_type(kind):
                assert f"`{codec.record_type(kind)}`" in text


def test_every_attack_of_the_demo_stands_in_the_threat_model_with_its_error():
    rows = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8").splitlines()
    for attack in attacks(None):
        assert any(attack.name in row and f"`{attack.expected}`" in row for row in rows), attack.name


def test_every_error_and_check_that_a_page_names_exists():
    kinds = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, errors.StrongroomError)]
    known = {kind.code for kind in kinds} | every_check()
    families = {name.partition(".")[0] for name in known if "." in name} - {"strongroom"}
    for page in PAGES:
        for name in re.findall(r"`([a-z]+(?:\.[a-z0-9_]+)+)`", page.read_text(encoding="utf-8")):
            if name.partition(".")[0] in families and not name.endswith((".json", ".toml", ".md")):
                assert name in known | set(Verb), f"{name_of(page)}: {name}"


# --- pages are in order ---------------------------------------------------------------------------------------------------


def anchors_of(page):
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_local_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in anchors_of(place), f"{name_of(page)} links to {target}"


def test_every_page_of_the_documentation_can_be_reached_from_its_index():
    reached, todo = set(), [ROOT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        todo += [
            (page.parent / path).resolve() for path in re.findall(r"\]\(([^)#\s:]+)", page.read_text(encoding="utf-8"))
        ]
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= reached


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=name_of)
def test_a_page_names_no_foreign_host_and_no_path_of_a_machine(page):
    text = page.read_text(encoding="utf-8")
    hosts = set(re.findall(r"[a-z]+://([A-Za-z0-9._-]+)", text))
    assert hosts <= HOSTS | SPECIFICATIONS
    assert not re.search(r"(?<![\w.])/(?:root|home|work|tmp|Users|mnt)/", text)


def test_a_changelog_fragment_is_named_for_its_kind():
    kinds = {"added", "changed", "fixed", "removed", "security"}
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    assert all(path.suffix == ".md" and path.stem.rpartition(".")[2] in kinds for path in fragments)
