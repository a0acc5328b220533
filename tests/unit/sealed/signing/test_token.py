"""PINs on their way to a token. The token itself is a real one in tests/system/test_model_signing.py."""

from pathlib import Path

import pytest

from strongroom.crypto.pkcs11token import read_pin
from strongroom.crypto.pkcs11uri import PinSource, parse
from strongroom.errors import FileUnreadable, TokenUnavailable, UsageError
from strongroom.sealed.signing.token import TokenSigner, token_certificate

PIN = "canary-pin-3141"


def never() -> str:
    raise AssertionError("nobody is asked where the source is named")


@pytest.mark.parametrize("content", [PIN, PIN + "\n", PIN + "\r\n"])
def test_a_pin_is_read_from_a_file_without_its_end_of_line(content: str, tmp_path: Path):
    (tmp_path / "pin").write_text(content, newline="")
    assert read_pin(PinSource(file=str(tmp_path / "pin")), never) == PIN


def test_a_pin_is_read_from_the_environment_or_a_person():
    assert read_pin(PinSource(variable="TOKEN_PIN"), never, {"TOKEN_PIN": PIN}) == PIN
    assert read_pin(None, lambda: PIN) == PIN


@pytest.mark.parametrize("content", [b"", b"\n", b"1\n2", b"\xff", b"1" * 257, b"1" * 100_000])
def test_what_is_no_pin_is_refused_and_not_repeated(content: bytes, tmp_path: Path):
    (tmp_path / "pin").write_bytes(content)
    with pytest.raises((UsageError, FileUnreadable)) as refused:
        read_pin(PinSource(file=str(tmp_path / "pin")), never)
    assert "111" not in str(refused.value.as_dict())


def test_a_missing_source_is_refused(tmp_path: Path):
    with pytest.raises(FileUnreadable):
        read_pin(PinSource(file=str(tmp_path / "none")), never)
    with pytest.raises(UsageError):
        read_pin(PinSource(variable="TOKEN_PIN"), never, {})
    with pytest.raises(UsageError):
        read_pin(None, lambda: "")


def test_a_missing_module_is_unavailable(tmp_path: Path):
    uri = parse(f"pkcs11:token=t;object=o?module-path={tmp_path}/none.so")
    for act in (lambda: TokenSigner(uri, never), lambda: token_certificate(uri)):
        with pytest.raises(TokenUnavailable):
            act()
