"""Addresses of keys in tokens: RFC 7512, and where a PIN may come from."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto.pkcs11uri import PinSource, TokenUri, is_uri, parse
from strongroom.errors import UsageError

MODULE = "module-path=/usr/lib/softhsm/libsofthsm2.so"
PIN = "canary-pin-3141"


def test_an_address_names_token_object_module_and_pin():
    uri = f"pkcs11:token=My%20token;object=signer;id=%01%ff;type=private?{MODULE}&pin-source=file:/etc/pin"
    found = TokenUri(
        "My token", None, None, "signer", b"\x01\xff", "/usr/lib/softhsm/libsofthsm2.so", PinSource("/etc/pin")
    )
    assert is_uri(uri)
    assert parse(uri) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("/etc/pin", PinSource("/etc/pin")),
        ("file:/etc/pin", PinSource("/etc/pin")),
        ("file:///etc/pin", PinSource("/etc/pin")),
        ("env:TOKEN_PIN", PinSource(variable="TOKEN_PIN")),
    ],
)
def test_a_pin_comes_from_a_file_or_a_variable(source: str, found: PinSource):
    assert parse(f"pkcs11:serial=7;id=%01?{MODULE}&pin-source={source}").pin == found
    assert parse(f"pkcs11:slot-id=7;id=%01?{MODULE}").pin is None


REFUSED = {
    "another scheme": f"PKCS11:token=t;object=o?{MODULE}",
    "nothing": "pkcs11:;",
    "no token": f"pkcs11:object=o?{MODULE}",
    "no object": f"pkcs11:token=t?{MODULE}",
    "no module": "pkcs11:token=t;object=o",
    "an empty query": "pkcs11:token=t;object=o?",
    "a module by name": "pkcs11:token=t;object=o?module-name=softhsm2",
    "a relative module": "pkcs11:token=t;object=o?module-path=lib.so",
    "an unknown attribute": f"pkcs11:token=t;object=o;x-vendor=1?{MODULE}",
    "an attribute twice": f"pkcs11:token=t;token=t;object=o?{MODULE}",
    "an attribute in the wrong half": f"pkcs11:token=t;object=o;{MODULE}",
    "an empty value": f"pkcs11:token=;object=o?{MODULE}",
    "no value": f"pkcs11:token;object=o?{MODULE}",
    "a bare space": f"pkcs11:token=my token;object=o?{MODULE}",
    "half an escape": f"pkcs11:token=a%2;object=o?{MODULE}",
    "a token that is not UTF-8": f"pkcs11:token=%ff;object=o?{MODULE}",
    "a line break": f"pkcs11:token=a%0ab;object=o?{MODULE}",
    "a slot that is a word": f"pkcs11:slot-id=one;object=o?{MODULE}",
    "an unknown type": f"pkcs11:token=t;object=o;type=secret-key?{MODULE}",
    "a command for the PIN": f"pkcs11:token=t;object=o?{MODULE}&pin-source=|pinentry",
    "a relative file for the PIN": f"pkcs11:token=t;object=o?{MODULE}&pin-source=file:pin",
    "a strange variable": f"pkcs11:token=t;object=o?{MODULE}&pin-source=env:A-B",
    "too long": f"pkcs11:token={'t' * 5000};object=o?{MODULE}",
}


@pytest.mark.parametrize("uri", REFUSED.values(), ids=REFUSED.keys())
def test_other_addresses_are_refused_without_being_repeated(uri: str):
    with pytest.raises(UsageError) as refused:
        parse(uri)
    assert uri not in str(refused.value.as_dict())


def test_a_pin_in_the_address_is_refused_and_not_repeated():
    for uri in (f"pkcs11:token=t;object=o?{MODULE}&pin-value={PIN}", f"pkcs11:pin-value={PIN}"):
        with pytest.raises(UsageError, match="read by everybody") as refused:
            parse(uri)
        assert PIN not in str(refused.value.as_dict())


printable = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(token=printable, label=printable, id_=st.binary(min_size=1, max_size=8))
def test_what_is_encoded_comes_back(token: str, label: str, id_: bytes):
    encoded = "".join(f"%{byte:02x}" for byte in id_)
    found = parse(f"pkcs11:token={quote(token, safe='')};object={quote(label, safe='')};id={encoded}?{MODULE}")
    assert (found.token, found.label, found.id) == (token, label, id_)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80) | st.text("tokenbjcid=;?&%/:.12 ", max_size=80))
def test_whatever_comes_is_an_address_or_refused(text: str):
    try:
        assert parse("pkcs11:" + text).module
    except UsageError:
        pass
