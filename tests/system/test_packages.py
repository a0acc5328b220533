"""The wheels as users get them: each extra alone imports its rooms and nothing else, and the demo runs from the built wheel."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOMS = {
    "client": [
        "strongroom.client.client",
        "strongroom.client.documents",
        "strongroom.audit.verify",
        "strongroom.cli.audit",
        "strongroom.cli.talk",
        "strongroom.cli.receipt",
        "strongroom.cli.doctor",
        "strongroom.cli.launch",
        "strongroom.launch.life",
    ],
    "owner": ["strongroom.sealed.seal", "strongroom.sealed.open", "strongroom.release.client", "strongroom.cli.sealed"],
    "worker": ["strongroom.services.worker", "strongroom.workloads.inference.workload", "strongroom.cli.serve"],
    "broker": ["strongroom.release.opening", "strongroom.release.stores.sqlite", "strongroom.services.broker"],
    "proxy": ["strongroom.services.proxy"],
    "s3": ["strongroom.sealed.registries.s3"],
    "pkcs11": ["strongroom.crypto.pkcs11token", "strongroom.sealed.signing.token", "strongroom.cli.signing", "pkcs11"],
}
ABSENT = {
    "client": ["starlette", "sqlalchemy", "xllamacpp", "blake3", "strongroom_sim"],
    "owner": ["starlette", "sqlalchemy", "xllamacpp", "strongroom_sim"],
    "worker": ["sqlalchemy", "strongroom_sim"],
    "broker": ["xllamacpp", "blake3", "strongroom_sim"],
    "proxy": ["sqlalchemy", "xllamacpp", "strongroom_sim"],
    "s3": ["starlette", "sqlalchemy", "xllamacpp", "strongroom_sim"],
    "pkcs11": ["starlette", "sqlalchemy", "xllamacpp", "strongroom_sim"],
}


def run(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, env=clean | env, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for project in (ROOT, ROOT / "sim"):
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder


def install(wheels: Path, extra: str, place: Path) -> Path:
    """A fresh environment with one extra of the built wheel; returns its Python."""
    base = Path(sys.base_prefix) / "bin" / "python3"
    run(base, "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    pip = [base, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet"]
    run(*pip, "--find-links", wheels, f"strongroom[{extra}]=={PROJECT['version']}")
    return python


@pytest.mark.timeout(300)
@pytest.mark.parametrize("extra", ROOMS)
def test_an_extra_alone_imports_its_rooms_and_brings_nothing_foreign(wheels, extra, tmp_path):
    python = install(wheels, extra, tmp_path / "venv")
    code = (
        "import importlib, importlib.util as u, json\n"
        f"for room in {ROOMS[extra]!r}: importlib.import_module(room)\n"
        f"print(json.dumps([name for name in {ABSENT[extra]!r} if u.find_spec(name)]))"
    )
    assert json.loads(run(python, "-c", code).stdout) == []


@pytest.mark.timeout(300)
def test_a_command_whose_extra_is_missing_names_it(wheels, tmp_path):
    python = install(wheels, "client", tmp_path / "venv")
    done = subprocess.run(
        [str(python), "-m", "strongroom", "demo", "--json"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 4
    error = json.loads(done.stdout)["error"]
    assert error["remedy"] == "pip install 'strongroom[demo]'"
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(300)
def test_a_registry_whose_extra_is_missing_names_it(wheels, tmp_path):
    python = install(wheels, "owner", tmp_path / "venv")
    words = [str(python), "-m", "strongroom", "inspect", "s3://bucket/models:v1", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["remedy"] == "pip install 'strongroom[s3]'"


@pytest.mark.timeout(300)
def test_the_demo_runs_from_the_built_wheel(wheels, tmp_path):
    python = install(wheels, "demo", tmp_path / "venv")
    done = run(python.parent / "strongroom", "demo", "--json", XDG_CACHE_HOME=str(tmp_path / "cache"))
    told = json.loads(done.stdout)
    assert all(step["ok"] for step in told["steps"])
    assert all(attack["refused"] for attack in told["attacks"])
    assert told["canaries"]["found"] == 0


def test_the_pinned_requirements_are_those_of_the_project():
    wanted = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    names = {re.split(r"[\[<>=]", line)[0] for line in wanted} - {"strongroom", "strongroom-sim", "httpx"}
    names -= {"libvirt-python"}  # it is built against the host's libvirt; tests take Debian's
    pinned = [
        line for name in ("demo.in", "test.in") for line in (ROOT / "requirements" / name).read_text().splitlines()
    ]
    listed = {re.split(r"[<>=]", line)[0] for line in pinned}
    assert names <= listed


def test_no_lock_file_names_a_place_to_fetch_from():
    for path in (ROOT / "requirements").iterdir():
        assert "://" not in path.read_text(), path.name
    for path in ROOT.glob("tests/system/*/package-lock.json"):
        assert '"resolved"' not in path.read_text(), path.name


def test_every_pin_has_a_hash():
    for name in ("demo.txt", "test.txt", "model.txt"):
        text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
        pins = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
        assert pins
        assert all("--hash=sha256:" in pin for pin in pins), name


@pytest.mark.needs("make")
def test_make_installs_also_where_its_own_environment_is_active():
    """An environment without pip comes first on the path, as `activate` puts it there."""
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    told = run("make", "--silent", "--eval=installer: ; @$(PIP) --version", "installer", PATH=path)
    assert told.stdout.startswith("pip ")
