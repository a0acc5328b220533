"""Tokens. Peers: PyJWT reads ours and we read its; attacks are built by hand from header, payload and signature."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from strongroom.crypto import jose, signatures
from strongroom.errors import MalformedRecord, SignatureInvalid, UsageError

KEY = signatures.generate_p384()
PUBLIC = KEY.public_key()
OTHER = signatures.generate_p384()
CLAIMS = {"iss": "broker", "iat": 1_800_000_000, "submods": {"worker": {"ear.status": 2}}, "list": ["a", None, True]}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def es384(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA384())))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def forge(
    header: bytes | dict[str, object], payload: bytes = b'{"iss":"broker"}', *, key: ec.EllipticCurvePrivateKey = KEY
) -> str:
    """A token with any header and payload, and a signature that does hold."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{b64(head)}.{b64(payload)}"
    return f"{signed}.{b64(es384(key, signed.encode()))}"


def test_a_token_gives_back_its_claims():
    assert jose.verify_token(jose.sign_token(CLAIMS, KEY, "kid"), PUBLIC) == CLAIMS


def test_a_token_built_by_hand_is_read_as_ours_are():
    assert jose.verify_token(forge({"alg": "ES384"}), PUBLIC) == {"iss": "broker"}


def test_pyjwt_reads_our_tokens():
    token = jose.sign_token(CLAIMS, KEY, "kid")
    assert jwt.decode(token, PUBLIC, algorithms=["ES384"], options={"verify_iat": False}) == CLAIMS
    assert jwt.get_unverified_header(token) == {"alg": "ES384", "kid": "kid", "typ": "JWT"}


def test_we_read_the_tokens_of_pyjwt():
    token = jwt.encode(CLAIMS, KEY, algorithm="ES384", headers={"kid": "x", "private": {"a": [1]}})
    assert jose.verify_token(token, PUBLIC) == CLAIMS


def test_a_token_of_another_signer_is_refused():
    with pytest.raises(SignatureInvalid):
        jose.verify_token(jose.sign_token(CLAIMS, OTHER, "kid"), PUBLIC)


@pytest.mark.parametrize(
    "alg", ["none", "None", "ES256", "ES512", "RS256", "HS384", "EdDSA", "es384", "", None, 384, []]
)
def test_every_other_algorithm_is_refused_even_with_a_good_signature(alg: object):
    with pytest.raises(SignatureInvalid):
        jose.verify_token(forge({"alg": alg}), PUBLIC)


def test_a_token_without_an_algorithm_is_refused():
    with pytest.raises(SignatureInvalid):
        jose.verify_token(forge({"typ": "JWT"}), PUBLIC)


def test_the_public_key_is_no_secret_for_an_hmac():
    token = f"{b64(json.dumps({'alg': 'HS384'}).encode())}.{b64(b'{}')}"
    digest = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA384)
    mac = digest.sign(token.encode(), signatures.public_to_der(PUBLIC))
    with pytest.raises(SignatureInvalid):
        jose.verify_token(f"{token}.{b64(mac)}", PUBLIC)


def test_keys_and_addresses_in_the_header_are_never_used():
    attacker = ECKey.import_key(signatures.public_to_pem(OTHER.public_key())).as_dict()
    header = {"alg": "ES384", "jwk": attacker, "jku": "https://attacker.example/jwks", "kid": "mine"}
    with pytest.raises(SignatureInvalid):
        jose.verify_token(forge(header, key=OTHER), PUBLIC)
    assert jose.verify_token(forge(header), PUBLIC) == {"iss": "broker"}, "ignored, not refused"


@pytest.mark.parametrize(
    "extension",
    [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"crit": None}, {"crit": ["b64"], "b64": False}, {"b64": False}],
)
def test_critical_extensions_are_refused(extension: dict[str, object]):
    with pytest.raises(SignatureInvalid):
        jose.verify_token(forge({"alg": "ES384", **extension}), PUBLIC)


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b'{"alg":"none","alg":"ES384"}', b"{}"),
        (b'{"alg":"ES384"}', b'{"iss":"a","iss":"b"}'),
        (b'{"alg":"ES384"}', b'{"a":{"b":1,"b":2}}'),
    ],
)
def test_duplicate_members_are_refused(header: bytes, payload: bytes):
    with pytest.raises(MalformedRecord):
        jose.verify_token(forge(header, payload), PUBLIC)


@pytest.mark.parametrize("header", [b"[]", b'"ES384"', b"", b"{", b'{"alg":"ES384"} x', b"\xff"])
def test_a_header_that_is_no_object_is_refused(header: bytes):
    with pytest.raises(MalformedRecord):
        jose.verify_token(forge(header), PUBLIC)


@pytest.mark.parametrize("payload", [b"[]", b'"text"', b"", b"{", b'{"a":1.5}', b'{"a":NaN}', b"{} {}"])
def test_a_payload_that_is_no_object_of_exact_values_is_refused(payload: bytes):
    with pytest.raises(MalformedRecord):
        jose.verify_token(forge({"alg": "ES384"}, payload), PUBLIC)


def test_base64url_has_one_form():
    token = forge({"alg": "ES384"}, b'{"a":1}')
    header, payload, signature = token.split(".")
    for changed in (
        f"{header}=.{payload}.{signature}",
        f"{header}.{payload}.{signature}=",
        f"{header}.{payload}. {signature}",
        f"{header}.{payload}.{signature}\n",
        f"{header}.{payload[:-1]}{'R' if payload[-1] == 'Q' else 'Q'}.{signature}",
    ):
        with pytest.raises(MalformedRecord):
            jose.verify_token(changed, PUBLIC)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", "....", "{}", "é.é.é", "a.b.\ud800"])
def test_what_is_no_compact_token_is_refused(token: str):
    with pytest.raises(MalformedRecord):
        jose.verify_token(token, PUBLIC)


def test_a_token_over_64_kib_is_refused_before_anything_is_read():
    with pytest.raises(MalformedRecord):
        jose.verify_token(forge({"alg": "ES384"}, json.dumps({"a": "x" * 50_000}).encode()), PUBLIC)
    with pytest.raises(UsageError):
        jose.sign_token({"a": "x" * 50_000}, KEY, "kid")


def test_a_token_just_below_the_limit_is_read():
    claims = {"a": "x" * 48_000}
    assert jose.verify_token(jose.sign_token(claims, KEY, "kid"), PUBLIC) == claims


def test_a_signature_in_der_is_refused():
    head, payload, _ = jose.sign_token(CLAIMS, KEY, "kid").split(".")
    der = KEY.sign(f"{head}.{payload}".encode(), ec.ECDSA(hashes.SHA384()))
    with pytest.raises(SignatureInvalid):
        jose.verify_token(f"{head}.{payload}.{b64(der)}", PUBLIC)


@pytest.mark.parametrize("signature", [bytes(96), b"\xff" * 96, bytes(95), bytes(97), bytes(1)])
def test_a_signature_that_nobody_made_is_refused(signature: bytes):
    head, payload, _ = jose.sign_token(CLAIMS, KEY, "kid").split(".")
    with pytest.raises(SignatureInvalid):
        jose.verify_token(f"{head}.{payload}.{b64(signature)}", PUBLIC)


def test_only_keys_on_p384_sign_and_verify():
    with pytest.raises(UsageError):
        jose.sign_token(CLAIMS, signatures.generate_p256(), "kid")
    token = jose.sign_token(CLAIMS, KEY, "kid")
    for public in (signatures.generate_p256().public_key(), signatures.generate_ed25519().public_key()):
        with pytest.raises(SignatureInvalid):
            jose.verify_token(token, public)


TOKEN = jose.sign_token(CLAIMS, KEY, "kid")


@given(position=st.integers(0, len(TOKEN) - 1), character=st.characters())
@settings(max_examples=50, deadline=None)
def test_any_changed_character_is_refused(position: int, character: str):
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    if changed != TOKEN:
        with pytest.raises((SignatureInvalid, MalformedRecord)):
            jose.verify_token(changed, PUBLIC)


NAMES = st.sampled_from(["alg", "jwk", "jku", "x5c", "x5t", "kid", "typ", "cty", "n"])
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@given(members=st.dictionaries(NAMES, VALUES))
@settings(max_examples=50, deadline=None)
def test_no_header_leads_to_any_other_error(members: dict[str, object]):
    try:
        claims = jose.verify_token(forge({"alg": "ES384", **members}), PUBLIC)
    except (SignatureInvalid, MalformedRecord):
        return
    assert claims == {"iss": "broker"}
