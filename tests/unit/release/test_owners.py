import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from strongroom.crypto.signatures import fingerprint, generate_p256, generate_p384
from strongroom.errors import NotAuthorised, UsageError
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.release.owners import TOKEN_TYPE, check_request, sign_request

NOW = 1_800_000_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
OWNER, SECOND = generate_p256(), generate_p256()
PUBLIC = OWNER.public_key()
BROKER = digest_bytes(b"broker")
REQUEST = {"broker": BROKER, "method": "POST", "path": "/v1/keys", "body": b"{}", "now": NOW}


def check(token, owners=(PUBLIC,), **changes):
    return check_request(token, {fingerprint(owner): owner for owner in owners}, **{**REQUEST, **changes})


def forged(header=None, claims=None, key=OWNER):
    """A token with members of one's own."""
    good = sign_request(OWNER, **REQUEST)
    payload = {**json.loads(codec.b64decode(good.split(".")[1])), **(claims or {})}
    return jws.serialize_compact(
        {"alg": "ES256", "kid": fingerprint(PUBLIC), "typ": TOKEN_TYPE, **(header or {})},
        json.dumps({name: value for name, value in payload.items() if value is not None}).encode(),
        ECKey.import_key(key),
        algorithms=["ES256"],
    )


def test_the_owner_who_signed_is_known_by_fingerprint():
    token = sign_request(SECOND, **REQUEST)
    who, claims = check(token, [OWNER.public_key(), SECOND.public_key()])
    assert who == fingerprint(SECOND.public_key())
    assert len(claims.jti) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"broker": digest_bytes(b"x")},
        {"method": "GET"},
        {"path": "/v1/keys/"},
        {"body": b""},
        {"now": NOW + 60},
        {"now": NOW - 31},
    ],
)
def test_a_token_holds_for_one_request_at_one_time(change):
    with pytest.raises(NotAuthorised):
        check(sign_request(OWNER, **REQUEST), **change)


def test_nobody_is_an_owner_where_there_is_none():
    with pytest.raises(NotAuthorised):
        check(sign_request(OWNER, **REQUEST), [])


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "a.b.c",
        "ä.b.c",
        "x" * 5000,
        forged(key=SECOND),
        forged(header={"kid": fingerprint(SECOND.public_key())}),
        forged(header={"kid": ""}),
        forged(header={"typ": "JWT"}),
        forged(claims={"exp": NOW + 3600}),
        forged(claims={"jti": ""}),
        forged(claims={"jti": None}),
        forged(claims={"extra": 1}),
        forged(claims={"iat": "now"}),
    ],
)
def test_what_is_not_exactly_an_owners_token_is_refused(token):
    with pytest.raises(NotAuthorised):
        check(token)


def b64(data):
    return codec.b64encode(data).replace("+", "-").replace("/", "_").rstrip("=")


@given(
    header=st.one_of(st.binary(max_size=64), JSON.map(lambda value: json.dumps(value).encode())),
    rest=st.lists(st.binary(max_size=64), max_size=3),
    kid=st.booleans(),
)
def test_whatever_else_is_sent_as_a_token_is_refused_and_nothing_worse(header, rest, kid):
    if kid:
        header = json.dumps({"alg": "ES256", "kid": fingerprint(PUBLIC), "crit": ["b64"], "b64": False}).encode()
    with pytest.raises(NotAuthorised):
        check(".".join(map(b64, [header, *rest])))


@given(st.text(max_size=200))
def test_any_text_is_no_token(text):
    with pytest.raises(NotAuthorised):
        check(text)


def test_a_token_without_a_signature_is_refused():
    header, payload, _ = sign_request(OWNER, **REQUEST).split(".")
    none = codec.b64encode(json.dumps({"alg": "none", "typ": TOKEN_TYPE}).encode())
    for token in (f"{none}.{payload}.", f"{header}.{payload}.", f"{none}.{payload}.AA"):
        with pytest.raises(NotAuthorised):
            check(token)


def test_an_owners_key_is_on_p256():
    with pytest.raises(UsageError):
        sign_request(generate_p384(), **REQUEST)
