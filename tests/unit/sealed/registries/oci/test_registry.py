import json

import pytest
from oci_service import INDEX, OciService, digest_of, listing

from strongroom.errors import FileUnreadable, MalformedArtifact, SealBroken, ServiceUnavailable
from strongroom.records.digest import digest_bytes
from strongroom.sealed.registries.layout import fallback_tag
from strongroom.sealed.registries.port import IMAGE_MANIFEST, Descriptor, write_small

DATA = b'{"schemaVersion":2}'
SUBJECT = digest_bytes(b"subject")
KIND = "application/vnd.example.signature"


def referrer(number, kind=KIND, subject=SUBJECT):
    about = {"digest": subject, "mediaType": IMAGE_MANIFEST, "size": 7}
    return json.dumps({"number": number, "artifactType": kind, "subject": about}).encode()


# --- manifests ----------------------------------------------------------------------------------------------------------


def test_a_manifest_is_found_by_its_digest_and_its_tag(registry):
    digest = registry.put_manifest(DATA, media_type=IMAGE_MANIFEST, tag="v1")
    assert digest == digest_bytes(DATA)
    assert registry.resolve("v1") == digest
    assert registry.resolve(digest) == digest
    assert registry.get_manifest(digest) == DATA


def test_a_manifest_that_is_there_is_not_sent_again_but_a_tag_moves(registry, service):
    for _ in range(2):
        registry.put_manifest(DATA, media_type=IMAGE_MANIFEST)
    assert service.count("PUT") == 1
    registry.put_manifest(DATA, media_type=IMAGE_MANIFEST, tag="v1")
    registry.put_manifest(b"{}", media_type=IMAGE_MANIFEST, tag="v1")
    assert registry.resolve("v1") == digest_bytes(b"{}")


def test_what_the_registry_says_of_digests_is_not_believed(registry, service):
    service.manifests["team/model", "v1"] = IMAGE_MANIFEST, DATA
    assert registry.resolve("v1") == digest_bytes(DATA)  # its Docker-Content-Digest says otherwise
    service.manifests["team/model", SUBJECT] = IMAGE_MANIFEST, DATA
    with pytest.raises(SealBroken, match="digest"):
        registry.get_manifest(SUBJECT)


@pytest.mark.parametrize("reference", ["never", SUBJECT])
def test_a_manifest_that_is_not_there_is_unreadable(registry, reference):
    with pytest.raises(FileUnreadable, match=r"127.0.0.1.*team/model has no manifest"):
        registry.get_manifest(registry.resolve(reference))


def test_a_manifest_is_not_read_beyond_its_limit(registry, service):
    service.manifests["team/model", "v1"] = IMAGE_MANIFEST, bytes(5 << 20)
    with pytest.raises(ServiceUnavailable, match="sent more than"):
        registry.resolve("v1")


def test_an_answer_that_is_no_registrys_is_unavailable_and_names_the_code(registry, service):
    service.twist("GET", "manifests", lambda e: e.reply(405, b'{"errors":[{"code":"UNSUPPORTED","message":"no\\n"}]}'))
    with pytest.raises(ServiceUnavailable, match="answered 405") as caught:
        registry.resolve("v1")
    assert caught.value.detail == "UNSUPPORTED"
    for body in (b"", b"<html>", b"[]", b'{"errors":[]}', b'{"errors":[{"code":"a b"}]}', b'{"errors":5}'):
        service.twist("GET", "manifests", lambda e, body=body: e.reply(418, body))
        with pytest.raises(ServiceUnavailable) as caught:
            registry.resolve("v1")
        assert caught.value.detail == ""


def test_writing_a_manifest_is_tried_again(registry, service, client):
    service.twist("PUT", "manifests", lambda e: e.cut(), times=2)
    registry.put_manifest(DATA, media_type=IMAGE_MANIFEST, tag="v1")
    assert len(client.waits) == 2


# --- referrers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", [False, True])
def test_referrers_are_found_by_the_api_or_by_the_tag(client, start, api):
    service = start(OciService(referrers=api))
    registry = client.registry(service.place)
    assert registry.referrers(SUBJECT, KIND) == ()
    first, second = (registry.attach(SUBJECT, referrer(n), artifact_type=KIND) for n in range(2))
    registry.attach(SUBJECT, referrer(2, "application/other"), artifact_type="application/other")
    assert registry.referrers(SUBJECT, KIND) == (first, second)
    assert registry.get_manifest(second) == referrer(1)
    assert (("team/model", fallback_tag(SUBJECT)) in service.manifests) != api


def test_a_referrer_whose_type_some_tool_dropped_from_the_list_is_found(registry, service):
    digest = registry.attach(SUBJECT, referrer(0), artifact_type=KIND)
    kind, data = service.manifests["team/model", fallback_tag(SUBJECT)]
    value = json.loads(data)
    del value["manifests"][0]["artifactType"]
    service.manifests["team/model", fallback_tag(SUBJECT)] = kind, json.dumps(value).encode()
    assert registry.referrers(SUBJECT, KIND) == (digest,)


def test_what_is_attached_twice_is_listed_once(registry):
    for _ in range(2):
        registry.attach(SUBJECT, referrer(0), artifact_type=KIND)
    assert len(registry.referrers(SUBJECT, KIND)) == 1


def test_referrers_under_the_tag_are_found_where_the_api_lists_none(client, start):
    service = start(OciService(referrers=False))
    registry = client.registry(service.place)
    digest = registry.attach(SUBJECT, referrer(0), artifact_type=KIND)
    service.manifests.pop(("team/model", digest))
    service.referrers = True  # an upgrade that did not look at old ones
    assert registry.referrers(SUBJECT, KIND) == (digest,)


def test_two_who_attach_at_once_are_both_listed(registry, service):
    other = {**Descriptor.of(IMAGE_MANIFEST, b"other").to_json(), "artifactType": KIND}

    def overtaken(exchange):
        exchange.read()
        body = json.dumps({"schemaVersion": 2, "manifests": [other]}).encode()
        service.manifests["team/model", fallback_tag(SUBJECT)] = INDEX, body
        return exchange.reply(201)

    service.twist("PUT", f"manifests/{fallback_tag(SUBJECT)}", overtaken)
    mine = registry.attach(SUBJECT, referrer(0), artifact_type=KIND)
    assert registry.referrers(SUBJECT, KIND) == (other["digest"], mine)


def test_a_registry_that_keeps_no_list_is_unavailable(registry, service):
    service.twist("PUT", f"manifests/{fallback_tag(SUBJECT)}", lambda e: e.reply(201), times=99)
    with pytest.raises(ServiceUnavailable, match="list of referrers"):
        registry.attach(SUBJECT, referrer(0), artifact_type=KIND)
    assert service.count("PUT", fallback_tag(SUBJECT)) == 4


def entry(number):
    return {**Descriptor.of(IMAGE_MANIFEST, bytes([number])).to_json(), "artifactType": KIND}


def test_a_list_may_go_on_but_not_for_ever_and_not_in_the_clear(registry, service):
    def page(exchange, link):
        return listing(exchange, [entry(len(service.seen) % 100)], link=link)

    service.twist("GET", "/referrers/", lambda e: page(e, f'<{e.path}?n=2>; rel="next"'))
    service.twist("GET", "/referrers/", lambda e: page(e, '<x>; rel="prev"'))
    assert len(registry.referrers(SUBJECT, KIND)) == 2
    service.twist("GET", "/referrers/", lambda e: page(e, f'<{e.path}>; rel="next"'), times=99)
    with pytest.raises(MalformedArtifact, match="pages"):
        registry.referrers(SUBJECT, KIND)
    service.twists.clear()
    service.twist("GET", "/referrers/", lambda e: page(e, '<http://elsewhere.invalid/>; rel="next"'))
    with pytest.raises(ServiceUnavailable, match="without TLS"):
        registry.referrers(SUBJECT, KIND)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"manifests":[5]}', b'{"manifests":{}}'])
def test_a_list_of_another_form_is_malformed(registry, service, body):
    service.twist("GET", "/referrers/", lambda e: e.reply(200, body, content_type=INDEX))
    with pytest.raises(MalformedArtifact):
        registry.referrers(SUBJECT, KIND)


def test_a_page_of_something_else_is_no_list(registry, service):
    service.twist("GET", "/referrers/", lambda e: e.reply(200, b"<html>welcome", content_type="text/html"))
    assert registry.referrers(SUBJECT, KIND) == ()


# --- taking back --------------------------------------------------------------------------------------------------------


def test_what_is_taken_back_is_gone_and_what_cannot_be_is_no_error(registry, service, client):
    blob, manifest = write_small(registry, b"x"), registry.put_manifest(DATA, media_type=IMAGE_MANIFEST)
    registry.discard((blob, manifest, SUBJECT))
    assert not service.blobs
    assert ("team/model", manifest) not in service.manifests
    for answer in (405, 403, 503, 500):
        service.twists.append(lambda e, answer=answer: e.method == "DELETE" and e.reply(answer))
        registry.discard((SUBJECT,))
    service.twists.append(lambda e: e.method == "DELETE" and e.cut())
    registry.discard((SUBJECT,))
    assert client.waits == []


# --- mirrors ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirrored(client, start, service):
    """A registry with a mirror that has the same below `hub/`."""
    write_small(client.registry(service.place), DATA)
    client.registry(service.place).put_manifest(DATA, media_type=IMAGE_MANIFEST, tag="v1")
    mirror = start(OciService(blobs=dict(service.blobs)))
    mirror.manifests["hub/team/model", digest_of(DATA)] = IMAGE_MANIFEST, DATA
    service.seen.clear()
    environ = {"STRONGROOM_REGISTRY_MIRRORS": f"{service.place}={mirror.place}/hub"}
    return client.registry(service.place, environ), mirror


def test_what_is_known_by_its_digest_comes_from_the_mirror_and_tags_from_the_registry(mirrored, service):
    registry, mirror = mirrored
    assert registry.get_manifest(registry.resolve("v1")) == DATA
    with registry.open_blob(digest_bytes(DATA)) as blob:
        data = bytearray(blob.size)
        blob.read_into(memoryview(data), 0)
    assert bytes(data) == DATA
    assert [one.target.rpartition("/")[2] for one in service.seen] == ["v1"]
    assert all(one.target.startswith("/v2/hub/team/model/") for one in mirror.seen)
    write_small(registry, b"new")
    assert mirror.count("POST") + mirror.count("PUT") == 0


MIRROR_FAULTS = {
    "away": lambda e: e.cut(),
    "busy": lambda e: e.reply(503),
    "empty": lambda e: e.reply(404),
    "closed": lambda e: e.reply(403),
    "lying": lambda e: e.reply(200, b'{"schemaVersion":3}'),
    "of the wrong length": lambda e: e.reply(206, b"x", content_range="bytes 0-0/1"),
}


@pytest.mark.parametrize("fault", MIRROR_FAULTS.values(), ids=MIRROR_FAULTS.keys())
def test_where_a_mirror_fails_the_registry_is_asked(mirrored, service, fault):
    registry, mirror = mirrored
    mirror.twists.append(lambda e: e.method == "GET" and fault(e))
    assert registry.get_manifest(digest_bytes(DATA)) == DATA
    if "schemaVersion" not in str(fault.__code__.co_consts):
        with registry.open_blob(digest_bytes(DATA)) as blob:
            for offset in (0, 5):
                data = bytearray(5)
                blob.read_into(memoryview(data), offset)
                assert bytes(data) == DATA[offset : offset + 5]
        assert service.count("GET", "/blobs/") == 2


def test_where_all_fail_the_registrys_own_error_is_told(mirrored, service):
    registry, _ = mirrored
    with pytest.raises(FileUnreadable, match=service.place):
        registry.get_manifest(SUBJECT)
    with pytest.raises(FileUnreadable, match=service.place):
        registry.open_blob(SUBJECT)
