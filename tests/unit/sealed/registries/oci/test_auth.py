import base64
import json

import pytest
from oci_service import OciService

from strongroom.errors import MalformedRecord, NotAuthorised, ServiceUnavailable, StrongroomError
from strongroom.records.digest import digest_bytes
from strongroom.sealed.registries.port import IMAGE_MANIFEST, write_small

BASIC = "Basic " + base64.b64encode(b"ann:rain").decode()
DATA = b'{"schemaVersion":2}'


def wants_basic(service):
    def act(exchange):
        if exchange.headers.get("authorization") == BASIC:
            return False
        return exchange.reply(401, www_authenticate='Basic realm="registry"')

    service.twists.append(act)


def wants_bearer(service, issuer=None, *, realm=None, answer=None):
    """Have `service` want tokens that `issuer` (or the service itself) gives to ann; returns the valid ones."""
    issuer, valid = issuer or service, {}

    def guard(exchange):
        if exchange.path.startswith("/token"):
            return False
        scope = valid.get(exchange.headers.get("authorization", "").removeprefix("Bearer "))
        wanted = "pull" if exchange.method in {"GET", "HEAD"} else "pull,push"
        if scope is not None and wanted in scope:
            return False
        there = f"{issuer.url}/token" if realm is None else realm
        scope = f"repository:team/model:{wanted}"
        return exchange.reply(401, www_authenticate=f'Bearer realm="{there}",service="here",scope="{scope}"')

    def token(exchange):
        if not exchange.path.startswith("/token"):
            return False
        if answer is not None:
            return answer(exchange)
        if exchange.headers.get("authorization") not in {BASIC, None}:
            return exchange.reply(401)
        made = f"token-{len(valid)}"
        valid[made] = exchange.query["scope"]
        return exchange.reply(200, json.dumps({"token": made, "expires_in": 300}).encode())

    service.twists.append(guard)
    issuer.twists.append(token)
    return valid


def authorizations(service):
    return [one.headers.get("authorization") for one in service.seen]


# --- basic ------------------------------------------------------------------------------------------------------------


def test_nothing_is_said_before_it_is_asked_for(client, service, log_in):
    registry = client.registry(service.place, log_in(service.place))
    write_small(registry, DATA)
    assert set(authorizations(service)) == {None}


def test_a_name_and_password_are_given_when_asked_for_and_then_at_once(client, service, log_in):
    wants_basic(service)
    registry = client.registry(service.place, log_in(service.place))
    write_small(registry, DATA)
    assert authorizations(service) == [None, BASIC, None, BASIC, BASIC]  # reading, then writing
    assert service.blobs


@pytest.mark.parametrize("who", [{"user": "bob"}, {"password": "sun"}, {}])
def test_who_is_not_let_in_is_told_to_log_in(client, service, log_in, who):
    wants_basic(service)
    registry = client.registry(service.place, log_in(service.place, **who) if who else {})
    with pytest.raises(NotAuthorised) as caught:
        registry.resolve("latest")
    assert f"docker login {service.place}" in caught.value.remedy
    assert "sun" not in str(caught.value.as_dict())


def test_credentials_of_another_registry_are_not_given(client, service, log_in):
    wants_basic(service)
    with pytest.raises(NotAuthorised):
        client.registry(service.place, log_in("127.0.0.1:1")).resolve("latest")
    assert set(authorizations(service)) == {None}


def test_forbidden_is_not_authorised(client, service):
    service.twist("GET", "manifests", lambda e: e.reply(403))
    with pytest.raises(NotAuthorised):
        client.registry(service.place).resolve("latest")


def test_a_file_with_credentials_that_is_broken_is_said(client, service, tmp_path):
    wants_basic(service)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(MalformedRecord):
        client.registry(service.place, {"DOCKER_CONFIG": str(tmp_path)}).resolve("latest")


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_is_fetched_once_for_reading_and_once_for_writing(client, service, log_in):
    valid = wants_bearer(service)
    registry = client.registry(service.place, log_in(service.place))
    for number in range(3):
        write_small(registry, DATA + bytes([number]))
    assert list(valid.values()) == ["repository:team/model:pull", "repository:team/model:pull,push"]
    asked = [one for one in service.seen if one.target.startswith("/token")]
    assert [one.headers["authorization"] for one in asked] == [BASIC, BASIC]
    assert "service=here" in asked[0].target


def test_a_token_may_be_given_to_nobody_in_particular(client, service):
    wants_bearer(service)
    write_small(client.registry(service.place), DATA)
    assert BASIC not in authorizations(service)


def test_a_token_that_has_ended_or_was_withdrawn_is_fetched_anew(client, service, log_in, blob):
    valid = wants_bearer(service)
    registry = client.registry(service.place, log_in(service.place))
    for _ in range(2):
        with registry.open_blob(blob[0]):
            pass
    assert len(valid) == 1
    client.now += 300
    with registry.open_blob(blob[0]):
        pass
    assert len(valid) == 2
    for old in valid:
        valid[old] = ""
    with registry.open_blob(blob[0]):
        pass
    assert len(valid) == 3


def test_tokens_that_are_no_good_end_in_a_refusal(client, service, log_in):
    wants_bearer(service, answer=lambda e: e.reply(200, b'{"token":"none"}'))
    with pytest.raises(NotAuthorised):
        client.registry(service.place, log_in(service.place)).resolve("latest")
    assert service.count("GET", "/token") == 1


def test_an_identity_token_is_exchanged_and_not_sent_anywhere_else(client, service, tmp_path):
    forms = []

    def answer(exchange):
        forms.append((exchange.method, exchange.read().decode(), exchange.headers.get("authorization")))
        return exchange.reply(200, b'{"access_token":"given","expires_in":60}')

    wants_bearer(service, answer=answer)
    (tmp_path / "config.json").write_text(json.dumps({"auths": {service.place: {"identitytoken": "mine/1"}}}))
    with pytest.raises(NotAuthorised):
        client.registry(service.place, {"DOCKER_CONFIG": str(tmp_path)}).resolve("latest")
    ((method, form, authorization),) = forms
    assert (method, authorization) == ("POST", None)
    assert "grant_type=refresh_token" in form
    assert "refresh_token=mine%2F1" in form
    assert authorizations(service)[-1] == "Bearer given"
    assert not any("mine" in one.target or "mine" in str(one.headers) for one in service.seen)


def test_a_realm_on_another_server_of_this_machine_gets_what_this_registry_is_known_by(client, service, start, log_in):
    issuer = start(OciService())
    wants_bearer(service, issuer)
    write_small(client.registry(service.place, log_in(service.place)), DATA)
    assert set(authorizations(issuer)) == {BASIC}
    assert BASIC not in authorizations(service)


@pytest.mark.parametrize(
    "realm",
    ["http://auth.invalid/token", "ftp://auth.invalid/", "https://ann:rain@auth.invalid/", "", "/token", "https://",
     "https://auth.invalid/#x", "http://127.0.0.1.invalid/", "https://auth.invalid/" + "a" * 3000],
)  # fmt: skip
def test_a_realm_without_tls_or_of_another_form_gets_nothing(client, service, log_in, realm):
    wants_bearer(service, realm=realm)
    with pytest.raises(ServiceUnavailable, match="token service"):
        client.registry(service.place, log_in(service.place)).resolve("latest")
    assert client.waits == []


def test_a_token_service_that_redirects_is_followed_without_credentials(client, service, start, log_in):
    other = start(OciService())
    other.twist("GET", "/elsewhere", lambda e: e.reply(200, b'{"token":"x"}'))
    wants_bearer(service, answer=lambda e: e.reply(307, location=f"{other.url}/elsewhere"))
    with pytest.raises(NotAuthorised):
        client.registry(service.place, log_in(service.place)).resolve("latest")
    assert authorizations(other) == [None]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token":5}', b'{"token":""}', b'{"token":"a b"}', b'{"token":"a\\r\\nx: y"}',
     b'{"token":"x","expires_in":"soon"}', b'{"token":"' + b"x" * 40_000 + b'"}', b" " * 300_000],
)  # fmt: skip
def test_an_answer_that_is_no_token_is_refused(client, service, body):
    wants_bearer(service, answer=lambda e: e.reply(200, body))
    with pytest.raises(ServiceUnavailable, match=r"no token|sent more than"):
        client.registry(service.place).resolve("latest")


@pytest.mark.parametrize(("status", "error"), [(401, NotAuthorised), (403, NotAuthorised), (404, ServiceUnavailable)])
def test_a_token_service_that_says_no(client, service, log_in, status, error):
    wants_bearer(service, answer=lambda e: e.reply(status))
    with pytest.raises(error):
        client.registry(service.place, log_in(service.place)).resolve("latest")


def test_a_scope_of_another_repository_is_not_asked_for(client, service, log_in):
    def guard(exchange):
        if exchange.path.startswith("/token"):
            return exchange.reply(200, b'{"token":"x"}')
        header = f'Bearer realm="{service.url}/token",scope="repository:victim/secret:pull,push"'
        return exchange.reply(401, www_authenticate=header)

    service.twists.append(guard)
    with pytest.raises(NotAuthorised):
        client.registry(service.place, log_in(service.place)).resolve("latest")
    (asked,) = [one.target for one in service.seen if one.target.startswith("/token")]
    assert "victim" not in asked


@pytest.mark.parametrize("header", ["", "Negotiate", "Digest realm=x", "Basic realm=x, Digest", 'Basic realm="'])
def test_other_ways_to_be_let_in_are_not_ours(client, service, header):
    service.twist("GET", "manifests", lambda e: e.reply(401, www_authenticate=header), times=9)
    with pytest.raises(StrongroomError) as caught:
        client.registry(service.place).resolve("latest")
    assert isinstance(caught.value, NotAuthorised | ServiceUnavailable)


# --- where credentials go -----------------------------------------------------------------------------------------------


def test_a_redirect_to_another_host_is_followed_without_credentials(client, service, start, log_in, blob):
    other = start(OciService(blobs=dict(service.blobs)))
    wants_basic(service)
    service.twist("GET", "blobs", lambda e: e.reply(307, location=other.url + e.target), times=9)
    registry = client.registry(service.place, log_in(service.place))
    data = bytearray(len(blob[1]))
    with registry.open_blob(blob[0]) as opened:
        opened.read_into(memoryview(data), 0)
    assert bytes(data) == blob[1]
    assert authorizations(other) == [None]
    assert other.seen[0].headers["range"] == f"bytes=0-{len(data) - 1}"


def test_who_is_redirected_to_and_asks_for_credentials_gets_none(client, service, start, log_in, blob):
    other = start(OciService())
    wants_basic(other)
    wants_basic(service)
    service.twist("HEAD", "blobs", lambda e: e.reply(307, location=other.url + e.target), times=9)
    with pytest.raises(ServiceUnavailable, match="refuses us"):
        client.registry(service.place, {**log_in(service.place)}).open_blob(blob[0])
    assert authorizations(other) == [None]


def test_an_upload_that_goes_on_at_another_host_goes_there_without_credentials(client, service, start, log_in):
    other = start(OciService())
    wants_basic(service)
    registry = client.registry(service.place, log_in(service.place))
    other.sessions["s"] = bytearray()
    there = f"{other.url}/v2/team/model/blobs/uploads/s"
    service.twist("POST", "uploads", lambda e: e.reply(202, location=there), after=0)
    service.twists.reverse()
    digest = write_small(registry, DATA)
    assert digest in other.blobs
    assert set(authorizations(other)) == {None}


def test_a_manifest_is_written_with_credentials_for_writing(client, service, log_in):
    valid = wants_bearer(service)
    registry = client.registry(service.place, log_in(service.place))
    assert registry.put_manifest(DATA, media_type=IMAGE_MANIFEST, tag="v1") == digest_bytes(DATA)
    assert list(valid.values()) == ["repository:team/model:pull,push"]
