import dataclasses
import logging
import socket

import httpx2
import pytest

from strongroom.appraisal.policies import sign_policy
from strongroom.crypto import merkle
from strongroom.crypto.signatures import generate_p256
from strongroom.errors import (
    AddressInUse,
    AppraisalRefused,
    GrantInvalid,
    LeaseEnded,
    LogInvalid,
    MalformedRecord,
    NotAuthorised,
    ReleaseRefused,
    ServiceUnavailable,
    SignatureInvalid,
    StoreUnavailable,
    UsageError,
)
from strongroom.receipts.note import open_checkpoint
from strongroom.receipts.tiles import Tile, bundles_of, parse_bundle, parse_hashes, tiles_of
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.release import (
    Challenge,
    Edition,
    KeyRequest,
    LeaseState,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    Use,
)
from strongroom.records.revocation import About, Subject
from strongroom.release.client import BrokerClient
from strongroom.release.grants import open_grant, read_grant, sign_grant
from strongroom.release.owners import sign_request
from strongroom.services.server import BackgroundServer, bind, parse_listen

KEY = bytes(range(32))
ARTIFACT = digest_bytes(b"an artifact in a registry")


@pytest.fixture
def wrapped(world, owner):
    owner.put_policy(sign_policy(world.policy(), world.owner))
    owner.create_key("model", "policy")
    return owner.wrap("model", Edition.first(b"artifact-id"), KEY)


def release_request(client, worker, wrapped, challenge=None):
    challenge = challenge or client.challenge("release")
    return ReleaseRequest(
        challenge, worker.prove(challenge.nonce, "release"), (KeyRequest(ARTIFACT, wrapped, Use.OPEN),)
    )


def renewal_request(client, worker, lease_id):
    challenge = client.challenge(f"renew:{lease_id}")
    return RenewalRequest(challenge, worker.prove(challenge.nonce, challenge.purpose), lease_id)


def test_a_worker_proves_obtains_renews_and_logs_its_receipts(client, owner, worker, wrapped):
    request = release_request(client, worker, wrapped)
    answer = client.release(request)
    opened = open_grant(
        answer.grants[0],
        broker=client.identity,
        release_key=worker.release,
        evidence=request.bundle.evidence,
        artifact=ARTIFACT,
        wrapped=wrapped,
        lease_id=answer.lease_id,
    )
    assert opened == KEY
    assert client.verdict(answer.token).accepted
    assert client.renew(renewal_request(client, worker, answer.lease_id)).lease_seconds == 300
    assert client.post_receipts(answer.lease_id, worker.receipt, 3, b"r" * 32).index == client_log_size(client) - 1
    assert [(lease.state, lease.renewals) for lease in owner.leases()] == [(LeaseState.ACTIVE, 1)]


def client_log_size(client):
    text = client._http.get("/checkpoint").text
    return open_checkpoint(text, client.identity.log_origin, client.identity.log).size


@pytest.mark.usefixtures("wrapped")
def test_owners_list_what_they_made(world, owner):
    assert [(key.key_id, key.version, key.policy_id, key.state) for key in owner.keys()] == [  # noqa: SIM118 (not a dict)
        ("model", 1, "policy", "active")
    ]
    assert [(policy.id, policy.version, policy.digest) for policy in owner.policies()] == [
        ("policy", 1, world.policy().digest)
    ]
    assert owner.retire_key("model")[0].state == "retired"
    with pytest.raises(UsageError, match="retired"):
        owner.wrap("model", Edition.first(b"artifact-id"), KEY)


def test_a_revoked_worker_learns_it_at_its_next_renewal(client, owner, worker, wrapped):
    answer = client.release(release_request(client, worker, wrapped))
    assert owner.revoke(answer.lease_id)[0].state is LeaseState.REVOKED
    with pytest.raises(LeaseEnded) as ended:
        client.renew(renewal_request(client, worker, answer.lease_id))
    assert ended.value.code == "release.lease_ended"
    with pytest.raises(LeaseEnded):
        owner.revoke(answer.lease_id)


@pytest.mark.parametrize("subject", [Subject(About.KEY, "model"), Subject(About.POLICY, "policy")])
def test_a_revocation_by_key_or_policy_ends_every_lease_under_it(
    client, owner, worker, another_worker, wrapped, subject
):
    leases = {client.release(release_request(client, each, wrapped)).lease_id for each in (worker, another_worker)}
    assert {lease.id for lease in owner.revoke_subject(subject).leases} == leases
    assert owner.revoke_subject(subject).leases == ()


def test_a_refusal_is_403_and_names_the_failed_checks(world, url, client, worker, wrapped):
    world.appraiser.admits = False
    request = release_request(client, worker, wrapped)
    answer = httpx2.post(f"{url}/v1/releases", content=codec.encode(request))
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert answer.json()["code"] == "appraisal.refused"
    assert answer.json()["checks"] == ["policy.test"]
    with pytest.raises(AppraisalRefused) as refused:
        client.release(request)
    assert refused.value.failed == ("policy.test",)


@pytest.mark.usefixtures("wrapped")
def test_a_policy_never_goes_back_over_http_either(world, owner):
    owner.put_policy(sign_policy(world.policy(version=3), world.owner))
    with pytest.raises(ReleaseRefused, match="never goes back"):
        owner.put_policy(sign_policy(world.policy(version=2), world.owner))
    with pytest.raises(SignatureInvalid):
        owner.put_policy(sign_policy(world.policy(version=4), generate_p256()))


def test_a_stranger_is_no_owner(world, url):
    stranger = BrokerClient(
        url, fingerprint=world.broker.identity.fingerprint, identity=generate_p256(), clock=lambda: world.now
    )
    with pytest.raises(NotAuthorised):
        stranger.keys()
    stranger.close()


def test_without_an_owners_key_nothing_is_sent(client):
    with pytest.raises(NotAuthorised, match="administrator's key"):
        client.keys()


def test_an_owners_token_is_used_once_and_for_one_request(world, url):
    fingerprint = world.broker.identity.fingerprint

    def token(**changes):
        members = {"broker": fingerprint, "method": "GET", "path": "/v1/keys", "body": b"", "now": world.now, **changes}
        return sign_request(world.owner, **members)

    def status(signed):
        return httpx2.get(f"{url}/v1/keys", headers={"authorization": f"Bearer {signed}"}).status_code

    once = token()
    assert [status(once), status(once)] == [200, 401]
    assert status(token(path="/v1/leases")) == 401
    assert status(token(method="POST")) == 401
    assert status(token(body=b"x")) == 401
    assert status(token(broker=digest_bytes(b"another"))) == 401
    assert status(token(now=world.now - 60)) == 401
    assert status(token(now=world.now + 3600)) == 401
    assert status("a.b.c") == 401
    assert httpx2.get(f"{url}/v1/keys").status_code == 401


def test_another_broker_in_its_place_is_noticed_before_anything_is_sent(url):
    client = BrokerClient(url, fingerprint=digest_bytes(b"the broker that I know"))
    with pytest.raises(SignatureInvalid, match="another broker"):
        _ = client.identity
    client.close()


def man_in_the_middle(world, url, change):
    """A client whose answers to releases pass through `change`."""

    class Middle(httpx2.HTTPTransport):
        def handle_request(self, request):
            response = super().handle_request(request)
            if request.url.path != "/v1/releases":
                return response
            response.read()
            answer = codec.decode(ReleaseAnswer, response.content)
            return httpx2.Response(200, content=codec.encode(change(answer)))

    return BrokerClient(url, fingerprint=world.broker.identity.fingerprint, transport=Middle())


@pytest.mark.parametrize("member", ["grants", "lease_seconds", "lease_id", "token", "proof"])
def test_an_answer_changed_on_the_way_is_refused(world, url, client, worker, another_worker, wrapped, member):
    other = client.release(release_request(client, another_worker, wrapped))

    def change(answer):
        if member == "grants":
            stranger = type(world.keys).generate()
            forged = tuple(sign_grant(read_grant(g, client.identity), stranger.signing) for g in answer.grants)
            return dataclasses.replace(answer, grants=forged)
        value = answer.lease_seconds + 1 if member == "lease_seconds" else getattr(other, member)
        return dataclasses.replace(answer, **{member: value})

    middle = man_in_the_middle(world, url, change)
    with pytest.raises(GrantInvalid if member == "grants" else LogInvalid):
        middle.release(release_request(client, worker, wrapped))
    middle.close()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"\x00", b'{"type":"strongroom/challenge-request/v2","purpose":"release"}']
)
def test_an_unreadable_request_is_400_with_a_code_and_a_remedy(url, body):
    answer = httpx2.post(f"{url}/v1/challenges", content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "record.malformed"
    assert answer.json()["remedy"]


def test_an_oversize_body_is_413_before_it_is_read(url):
    host, port = httpx2.URL(url).host, httpx2.URL(url).port
    with socket.create_connection((host, port), timeout=10) as peer:
        peer.sendall(b"POST /v1/releases HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
        assert peer.recv(64).startswith(b"HTTP/1.1 413 ")


def test_an_oversize_body_without_an_announcement_is_413_too(url):
    def parts():
        for _ in range(40):
            yield b"x" * 65536

    answer = httpx2.post(f"{url}/v1/releases", content=parts())
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/v1/releases", 405), ("GET", "/tile/0/999", 404)]
)
def test_an_unknown_path_or_method_is_a_problem_too(url, method, path, status):
    answer = httpx2.request(method, f"{url}{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_a_purpose_that_no_broker_serves_is_refused(client):
    with pytest.raises(ReleaseRefused, match="no challenge"):
        client.challenge("session")


def test_a_store_that_does_not_answer_is_503(world, client, worker, wrapped):
    request = release_request(client, worker, wrapped)

    def fail(_):
        raise StoreUnavailable("the broker's database does not answer")

    world.broker.store.read = fail
    with pytest.raises(StoreUnavailable):
        client.release(request)


def test_a_defect_is_one_problem_without_a_traceback(world, url, caplog):
    def fail(*_args, **_members):
        raise RuntimeError("canary-4711")

    world.broker.challenge = fail
    with caplog.at_level(logging.DEBUG):
        answer = httpx2.post(
            f"{url}/v1/challenges", content=b'{"type":"strongroom/challenge-request/v1","purpose":"release"}'
        )
    assert (answer.status_code, answer.json()["code"]) == (500, "strongroom.error")
    assert "canary-4711" not in answer.text + caplog.text
    assert "defect kind=RuntimeError" in caplog.text


def test_a_broker_that_is_not_there_is_unavailable(world):
    free = bind("127.0.0.1", 0)
    port = free.getsockname()[1]
    free.close()
    client = BrokerClient(f"http://127.0.0.1:{port}", fingerprint=world.broker.identity.fingerprint)
    with pytest.raises(ServiceUnavailable):
        client.challenge("release")
    client.close()


@pytest.mark.parametrize("url", ["", "ftp://x", "http://[", "nothing"])
def test_an_address_that_is_none_is_an_error_of_ours(world, url):
    with pytest.raises((UsageError, ServiceUnavailable)):
        BrokerClient(url, fingerprint=world.broker.identity.fingerprint).challenge("release")


def test_a_compressed_answer_is_not_unpacked(world):
    packed = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=b"x", headers={"content-encoding": "x-unknown"})
    )
    client = BrokerClient("http://broker", fingerprint=world.broker.identity.fingerprint, transport=packed)
    with pytest.raises(MalformedRecord, match="encoding"):
        client.challenge("release")
    client.close()


def test_an_endless_answer_is_cut(world):
    endless = httpx2.MockTransport(lambda _: httpx2.Response(200, content=iter([b"x" * 65536] * 100)))
    client = BrokerClient("http://broker", fingerprint=world.broker.identity.fingerprint, transport=endless)
    with pytest.raises(MalformedRecord, match="exceeds"):
        client.challenge("release")
    client.close()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"code":7}', b'{"code":"no.such.code","message":null}', b"<html>"])
def test_a_refusal_without_a_usable_reason_is_still_a_refusal(world, body):
    transport = httpx2.MockTransport(lambda _: httpx2.Response(403, content=body))
    client = BrokerClient("http://broker", fingerprint=world.broker.identity.fingerprint, transport=transport)
    with pytest.raises(ReleaseRefused):
        client.challenge("release")
    client.close()


def test_the_log_is_served_as_tiles_that_give_the_checkpoints_root(url, client, worker, wrapped):
    for _ in range(3):
        client.release(release_request(client, worker, wrapped))
    text = httpx2.get(f"{url}/checkpoint").text
    checkpoint = open_checkpoint(text, client.identity.log_origin, client.identity.log)
    (tile,) = tiles_of(checkpoint.size)
    hashes = parse_hashes(httpx2.get(f"{url}/{tile.path}").content, tile)
    (bundle,) = bundles_of(checkpoint.size)
    entries = parse_bundle(httpx2.get(f"{url}/{bundle.path}").content, bundle)
    assert merkle.root(hashes) == checkpoint.root
    assert [merkle.leaf_hash(entry) for entry in entries] == list(hashes)
    beyond = Tile(0, 0, checkpoint.size + 1)
    assert httpx2.get(f"{url}/{beyond.path}").status_code == 404


def test_an_empty_log_has_a_checkpoint_too(url, client):
    checkpoint = open_checkpoint(httpx2.get(f"{url}/checkpoint").text, client.identity.log_origin, client.identity.log)
    assert (checkpoint.size, checkpoint.root) == (0, merkle.EMPTY_ROOT)


def test_log_lines_hold_no_names_and_no_keys(client, worker, wrapped, caplog):
    with caplog.at_level(logging.DEBUG, logger="strongroom"):
        answer = client.release(release_request(client, worker, wrapped))
    assert "yes event=release grants=1" in caplog.text
    for secret in ("model", answer.lease_id, answer.token[:40], KEY.hex()):
        assert secret not in caplog.text


def test_a_port_that_somebody_holds_is_an_error_with_a_remedy(url):
    port = httpx2.URL(url).port
    with pytest.raises(AddressInUse) as refused, BackgroundServer(lambda *_: None, port=port):
        pass
    assert "--listen" in refused.value.remedy


@pytest.mark.parametrize("text", ["", "8080", ":8080", "host:", "host:x", "host:65536", "host:-1", "host:８"])
def test_an_address_to_listen_on_has_a_host_and_a_port(text):
    with pytest.raises(UsageError):
        parse_listen(text)


def test_addresses_to_listen_on_are_read(url):
    assert parse_listen("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_listen("[::1]:8080") == ("::1", 8080)
    assert isinstance(
        codec.from_json(
            Challenge,
            httpx2.post(
                f"{url}/v1/challenges", content=b'{"type":"strongroom/challenge-request/v1","purpose":"release"}'
            ).json(),
        ),
        Challenge,
    )
