"""Options and annotations: read strictly, and ways to a key that are not opened are named."""

import base64
import json
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import MalformedArtifact, SealBroken
from strongroom.records.digest import digest_bytes
from strongroom.sealed.ocicrypt import jwe, options
from strongroom.sealed.ocicrypt.options import Place, PrivateOptions

PLAIN = PrivateOptions(bytes(32), bytes(16), digest_bytes(b"plain"), None)
PLACED = PrivateOptions(bytes(32), bytes(16), digest_bytes(b"plain"), Place(bytes(16), 1, 2, "a/b"))


def b64(value) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


def wrapped(private: bytes, *keys) -> str:
    return b64(jwe.encrypt(private, [key.public_key() for key in keys], random=secrets.token_bytes))


@pytest.mark.parametrize("private", [PLAIN, PLACED])
def test_private_options_are_read_as_they_were_written(private):
    assert PrivateOptions.from_bytes(private.to_bytes()) == private


def test_private_options_look_as_other_readers_want_them():
    value = json.loads(PLACED.to_bytes())
    assert set(value) == {"symkey", "digest", "cipheroptions"}
    assert {name: len(base64.b64decode(text)) for name, text in value["cipheroptions"].items()}["nonce"] == 16


def test_no_key_shows_in_the_form_of_private_options():
    secret = PrivateOptions(b"\xabcanary" + bytes(25), bytes(16), digest_bytes(b""), None)
    assert "canary" not in repr(secret)


GOOD = {"symkey": b64(bytes(32)), "digest": digest_bytes(b""), "cipheroptions": {"nonce": b64(bytes(16))}}


@pytest.mark.parametrize(
    "change",
    [
        {"symkey": b64(bytes(31))},
        {"symkey": None},
        {"symkey": "*"},
        {"digest": ""},
        {"digest": "sha512:" + "0" * 128},
        {"digest": 7},
        {"cipheroptions": {}},
        {"cipheroptions": {"nonce": b64(bytes(12))}},
        {"cipheroptions": {"nonce": b64(bytes(16)), "more": ""}},
        {"cipheroptions": {"nonce": b64(bytes(16)), options.PLACE: b64({})}},
        {"more": 1},
    ],
)
def test_private_options_that_are_not_understood_are_malformed(change):
    assert PrivateOptions.from_bytes(json.dumps(GOOD).encode()).place is None
    with pytest.raises(MalformedArtifact, match="private options"):
        PrivateOptions.from_bytes(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"cipher": "AES_128_CTR"},
        {"cipher": ""},
        {"hmac": ""},
        {"hmac": b64(bytes(31))},
        {"hmac": b64(bytes(32))[:-1]},
        {"cipheroptions": {"nonce": ""}},
        {"more": 1},
    ],
)
def test_public_options_that_are_not_understood_are_malformed(change):
    value = json.loads(options.public_bytes(bytes(32)))
    assert options.mac_of({options.PUBLIC: b64(value)}) == bytes(32)
    with pytest.raises(MalformedArtifact, match="public options"):
        options.mac_of({options.PUBLIC: b64(value | change)})


def test_a_layer_without_public_options_is_malformed():
    with pytest.raises(MalformedArtifact):
        options.mac_of({})


def test_of_several_wrapped_keys_the_one_that_opens_counts(keys):
    one, two = (wrapped(PLAIN.to_bytes(), keys[name]) for name in ("rsa", "p256"))
    assert options.unwrap({options.JWE: f"{one},{two}"}, keys["p256"]) == PLAIN
    with pytest.raises(SealBroken, match="opens none"):
        options.unwrap({options.JWE: f"{one},{two}"}, keys["p384"])


def test_too_many_wrapped_keys_and_no_base64_are_malformed(keys):
    one = wrapped(PLAIN.to_bytes(), keys["p256"])
    for text in (",".join([one] * 65), one + ",", "*", ""):
        with pytest.raises(MalformedArtifact):
            options.unwrap({options.JWE: text}, keys["p384"])


PACKET = {"kid": "kbs:///default/key/1", "wrapped_data": "AA==", "iv": "AA==", "wrap_type": "A256GCM"}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"pkcs7": "AA=="}, "not opened here: pkcs7$"),
        ({"pgp": "AA==", "pkcs11": "AA=="}, "not opened here: pgp, pkcs11$"),
        ({"provider.attestation-agent": b64(PACKET)}, r"provider.attestation-agent \(kbs:///default/key/1\)$"),
        ({"provider.attestation-agent": "*"}, "provider.attestation-agent$"),
        ({"provider.x": b64(PACKET | {"kid": "\x1b[31mcanary"})}, "provider.x$"),
        ({"provider.x": b64([])}, "provider.x$"),
        ({}, "no key of this layer is wrapped as JWE$"),
        ({"\x1b[31mcanary": ""}, "no key of this layer is wrapped as JWE$"),
    ],
)
def test_other_ways_to_the_key_are_refused_by_name(keys, found, told):
    with pytest.raises(SealBroken, match=told):
        options.unwrap({options.WRAPPED + name: text for name, text in found.items()}, keys["rsa"])


@given(st.binary(max_size=200))
def test_the_readers_are_total(data):
    for read in (
        PrivateOptions.from_bytes,
        lambda data: options.mac_of({options.PUBLIC: base64.b64encode(data).decode()}),
        lambda data: options.mac_of({options.PUBLIC: data.decode("latin-1")}),
    ):
        with pytest.raises(MalformedArtifact):
            read(data)
