"""Who may see a worker's numbers is part of what is measured."""

from pathlib import Path

import pytest

from strongroom.cli.observing import Observing
from strongroom.errors import FileUnreadable, UsageError
from strongroom.observe.otlp import Exporter
from strongroom.records.digest import digest_bytes

TOKEN = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_bytes(TOKEN + b"\n")
    return path


def test_nobody_sees_anything_unless_told_and_a_policy_for_that_stays_as_it_is():
    observing = Observing(None, None, None)
    assert observing.settings == {}
    with observing.exporting(observing.observer("m", 1)) as nothing:
        assert nothing is None


def test_what_is_measured_is_the_tokens_digest_and_the_collectors_address(token):
    observing = Observing(token, "https://collector.example:4318/", token)
    assert observing.settings == {"metrics": digest_bytes(TOKEN), "otlp": "https://collector.example:4318/"}
    assert TOKEN.decode() not in repr(observing)
    exporting = observing.exporting(observing.observer("m", 1))
    assert isinstance(exporting, Exporter)


def test_what_has_no_meaning_is_refused(token, tmp_path):
    for wrong in ((None, "ftp://collector", None), (None, None, token)):
        with pytest.raises(UsageError):
            Observing(*wrong)
    with pytest.raises(FileUnreadable):
        Observing(tmp_path / "nowhere", None, None)
    (tmp_path / "odd").write_bytes(b"a\nb")
    odd = Observing(None, "http://collector", tmp_path / "odd")
    with pytest.raises(UsageError):
        odd.exporting(odd.observer("m", 1))
