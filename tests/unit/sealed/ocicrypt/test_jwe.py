"""JWE: joserfc opens ours and we open its, every change is noticed, and the parser is total."""

import json
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe as peer
from joserfc.jwk import ECKey, RSAKey

from strongroom.errors import MalformedArtifact, SealBroken, UsageError
from strongroom.records import codec
from strongroom.sealed.ocicrypt import jwe

PAYLOAD = b'{"symkey":"canary"}'
NAMES = ("rsa", "p256", "p384", "p521")
ALGORITHMS = ["RSA-OAEP", "ECDH-ES+A256KW", "A256GCM"]
KEY = ec.generate_private_key(ec.SECP256R1())


def made(*keys, payload=PAYLOAD) -> bytes:
    return jwe.encrypt(payload, [key.public_key() for key in keys], random=secrets.token_bytes)


def joserfc_key(key):
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return (RSAKey if isinstance(key, rsa.RSAPrivateKey) else ECKey).import_key(der)


def changed(data: bytes, **members) -> bytes:
    value = json.loads(data) | members
    return json.dumps({name: text for name, text in value.items() if text is not None}).encode()


def header_of(data: bytes) -> dict:
    return json.loads(codec.b64decode(json.loads(data)["protected"]))


@pytest.mark.parametrize("name", NAMES)
def test_one_recipient_is_flattened_and_joserfc_opens_it(keys, name):
    data = made(keys[name])
    assert set(json.loads(data)) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
    assert jwe.decrypt(data, keys[name]) == PAYLOAD
    assert peer.decrypt_json(json.loads(data), joserfc_key(keys[name]), algorithms=ALGORITHMS).plaintext == PAYLOAD


def test_several_recipients_each_open_it_and_nobody_else(keys):
    data = made(*keys.values())
    assert set(json.loads(data)) == {"protected", "recipients", "iv", "ciphertext", "tag"}
    assert {jwe.decrypt(data, key) for key in keys.values()} == {PAYLOAD}
    for stranger in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())):
        with pytest.raises(SealBroken, match="opens none"):
            jwe.decrypt(data, stranger)


@pytest.mark.parametrize("name", NAMES)
def test_what_joserfc_encrypts_opens(keys, name):
    algorithm = "RSA-OAEP" if name == "rsa" else "ECDH-ES+A256KW"
    message = peer.FlattenedJSONEncryption({"enc": "A256GCM"}, PAYLOAD)
    message.add_recipient({"alg": algorithm}, joserfc_key(keys[name]))
    data = json.dumps(peer.encrypt_json(message, None, algorithms=ALGORITHMS)).encode()
    assert jwe.decrypt(data, keys[name]) == PAYLOAD


def test_the_members_of_an_ephemeral_key_are_sorted(keys):
    """Some agents authenticate the header as they print it again."""
    protected = codec.b64decode(json.loads(made(keys["p256"]))["protected"])
    assert protected.startswith(b'{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":"')


def test_a_second_key_beside_a_list_of_recipients_is_looked_past(keys):
    data = changed(made(*keys.values()), encrypted_key="AA")
    assert jwe.decrypt(data, keys["p384"]) == PAYLOAD


@pytest.mark.parametrize("member", ["iv", "ciphertext", "tag", "encrypted_key", "protected"])
@pytest.mark.parametrize("name", ["rsa", "p256"])
def test_every_part_is_authenticated(keys, name, member):
    data = made(keys[name])
    part = bytearray(codec.b64decode(json.loads(data)[member]))
    part[len(part) // 2] ^= 1
    with pytest.raises((SealBroken, MalformedArtifact)):
        jwe.decrypt(changed(data, **{member: codec.b64encode(bytes(part))}), keys[name])


def test_another_artifacts_ciphertext_does_not_open_under_this_key(keys):
    one, two = (json.loads(made(keys["rsa"])) for _ in range(2))
    mixed = one | {name: two[name] for name in ("iv", "ciphertext", "tag")}
    with pytest.raises(SealBroken, match="was changed"):
        jwe.decrypt(json.dumps(mixed).encode(), keys["rsa"])


@pytest.mark.parametrize(
    "header",
    [
        {"enc": "A128GCM"},
        {"enc": "A256CBC-HS512"},
        {"zip": "DEF"},
        {"crit": ["exp"]},
        {"epk": None},
        {"epk": {"crv": "P-256", "kty": "OKP", "x": "AA", "y": "AA"}},
        {"epk": {"crv": "P-256", "kty": "EC", "x": "AA", "y": "AA"}},
        {"epk": {"crv": "P-256", "kty": "EC", "x": "A" * 43, "y": "A" * 43}},
        {"epk": {"crv": "P-256", "kty": "EC", "x": "AA", "y": "AA", "d": "AA"}},
        {"alg": "ECDH-ES"},
        {"alg": "dir"},
        {"alg": "RSA1_5"},
        {"apu": "AA"},
    ],
)
def test_headers_that_are_not_understood_open_nothing(header):
    data = made(KEY)
    protected = codec.b64encode(json.dumps(header_of(data) | header).encode())
    with pytest.raises((SealBroken, MalformedArtifact)):
        jwe.decrypt(changed(data, protected=protected), KEY)


def test_a_point_off_the_curve_opens_nothing():
    data = made(KEY)
    point = header_of(data)["epk"]
    point["y"] = codec.b64encode(bytes(31) + b"\1")
    protected = codec.b64encode(json.dumps(header_of(data) | {"epk": point}).encode())
    with pytest.raises(SealBroken):
        jwe.decrypt(changed(data, protected=protected), KEY)


@pytest.mark.parametrize(
    "members",
    [
        {"aad": "AA"},
        {"more": 1},
        {"tag": None},
        {"tag": "AA"},
        {"iv": "AA"},
        {"iv": 7},
        {"header": {"enc": "A256GCM"}},
        {"unprotected": []},
        {"recipients": []},
        {"recipients": [{}] * 65, "encrypted_key": None},
        {"recipients": [1], "encrypted_key": None},
        {"recipients": [{"more": 1}], "encrypted_key": None},
        {"protected": "*"},
        {"protected": codec.b64encode(b"[]")},
    ],
)
def test_shapes_that_are_not_understood_are_malformed(members):
    with pytest.raises(MalformedArtifact, match="no JWE"):
        jwe.decrypt(changed(made(KEY), **members), KEY)


def test_nobody_and_too_many_are_usage_errors():
    for count in (0, jwe.MAX_RECIPIENTS + 1):
        with pytest.raises(UsageError):
            made(*[KEY] * count)
    assert jwe.decrypt(made(*[KEY] * jwe.MAX_RECIPIENTS), KEY) == PAYLOAD


@given(
    st.binary(max_size=400)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["protected", "recipients", "iv", "ciphertext", "tag", "encrypted_key", "header", "x"]),
                inner,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_the_parser_is_total(data):
    with pytest.raises((MalformedArtifact, SealBroken)):
        jwe.decrypt(data, KEY)


@settings(max_examples=200)
@given(st.data())
def test_no_flipped_bit_gives_another_payload(data):
    text = bytearray(WHOLE)
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert jwe.decrypt(bytes(text), KEY) == PAYLOAD
    except (MalformedArtifact, SealBroken):
        pass


WHOLE = made(KEY, ec.generate_private_key(ec.SECP256R1()))
