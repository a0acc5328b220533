import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.demo.canaries import Canary, hunt

SECRET = b"canary-0123456789-abcdef"


@given(before=st.binary(max_size=40), after=st.binary(max_size=40))
def test_a_canary_is_found_in_every_form_at_every_place(tmp_path_factory, before, after):
    folder = tmp_path_factory.mktemp("hunt")
    wrapped = before + SECRET + after
    forms = [wrapped, wrapped.hex().encode(), base64.b64encode(wrapped), base64.urlsafe_b64encode(wrapped)]
    for number, form in enumerate(forms):
        (folder / f"{number}").write_bytes(form)
    found, searched = hunt([Canary("prompt", SECRET)], [folder])
    assert {sighting.file for sighting in found} == {"0", "1", "2", "3"}
    assert searched == sum(len(form) for form in forms)


def test_a_canary_across_blocks_and_in_a_file_name_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("strongroom.demo.canaries.BLOCK", 16)
    (tmp_path / "file").write_bytes(b"x" * 9 + SECRET + b"y" * 9)
    (tmp_path / SECRET.decode()).write_bytes(b"")
    found, _ = hunt([Canary("prompt", SECRET)], [tmp_path])
    assert {sighting.file for sighting in found} == {"file", SECRET.decode()}


def test_nothing_is_found_where_nothing_is(tmp_path):
    (tmp_path / "file").write_bytes(bytes(10_000))
    assert hunt([Canary("prompt", SECRET)], [tmp_path]) == ([], 10_000)


@pytest.mark.parametrize("text", ["utf-16-le"])
def test_text_in_two_bytes_a_letter_is_found(tmp_path, text):
    (tmp_path / "file").write_bytes(SECRET.decode().encode(text))
    assert len(hunt([Canary("prompt", SECRET)], [tmp_path])[0]) == 1
