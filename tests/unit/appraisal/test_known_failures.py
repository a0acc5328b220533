"""The table of known failures in the documentation is true: every row has a test that bears its name, and every test is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "reference" / "evidence.md"
HEADING = "## Known failures, and where they are defended"
EVENTS = (
    "WireTap", "Battering RAM", "TEE.fail", "BadRAM", "Heracles", "WeSee", "CacheWarp", "StackWarp", "CIPHERLEAKS", "TDXdown",
    "TDX 1.5", "PERFMON", "go-sev-guest #185", "dcap-qvl", "go-tdx-guest", "occlum #1119", "OpenNHP #1732", "neunode", "lium",
    "CVE-2022-0317", "RA-TLS", "relay", "cuckoo", "stale collateral", "rollback", "NVML",
)  # fmt: skip
"""What the table must speak of."""


def rows():
    """The rows of the tables below the heading: (event, defence, tests)."""
    text = PAGE.read_text(encoding="utf-8").partition(HEADING)[2]
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [row for row in found if row[0] != "event" and set(row[0]) != {"-"}]


def names_of_tests(row):
    return re.findall(r"`(\w+)`", row[2])


def named(row):
    """The names in bold, as they stand in names of tests."""
    return [re.sub(r"\W+", "_", name.lower()).strip("_") for name in re.findall(r"\*\*(.+?)\*\*", row[0])]


@cache
def every_test():
    """The name of every test."""
    return frozenset(
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    )


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_every_known_failure_has_a_defence_and_a_test_that_bears_its_name(row):
    event, defence, tests = *row[:2], names_of_tests(row)
    assert len(row) == 3
    assert defence
    assert tests
    missing = [name for name in tests if name not in every_test()]
    assert not missing
    assert named(row), event
    unnamed = [name for name in named(row) if not any(name in test for test in tests)]
    assert not unnamed


def test_no_known_failure_is_left_out():
    text = " ".join(row[0] for row in rows())
    assert [event for event in EVENTS if f"**{event}**" not in text] == []
