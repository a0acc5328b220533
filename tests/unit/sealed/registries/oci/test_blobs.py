import itertools
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from vendors import raw_server

from strongroom.errors import FileUnreadable, SealBroken, ServiceUnavailable
from strongroom.records.digest import digest_bytes
from strongroom.sealed.registries.oci import OciRegistry, blobs
from strongroom.sealed.registries.oci.address import parse_reference
from strongroom.sealed.registries.oci.transport import retry_after
from strongroom.sealed.registries.port import Descriptor, UploadLost, read_small, write_small

CHUNK = 1000


def read(registry, digest, offset, length):
    data = bytearray(length)
    with registry.open_blob(digest) as opened:
        opened.read_into(memoryview(data), offset)
    return bytes(data)


def upload(registry, data, *, chunk=CHUNK, piece=300):
    """Send `data` in chunks, written in pieces that do not fit them."""
    with registry.push_blob() as writer:
        writer._chunk = chunk
        for start in range(0, len(data), piece):
            writer.write(data[start : start + piece])
        return writer.commit()


# --- reading ------------------------------------------------------------------------------------------------------------


def test_any_range_is_read_as_it_is(registry, blob, service):
    digest, data = blob
    for offset, length in ((0, 1), (0, len(data)), (5, 100), (len(data) - 1, 1), (7, 0), (len(data), 0)):
        assert read(registry, digest, offset, length) == data[offset : offset + length]
    assert service.seen[-1].method == "HEAD"  # nothing is asked for nothing


def test_ranges_are_read_by_several_threads_at_once(registry, blob, service):
    digest, data = blob
    together = threading.Barrier(4, timeout=10)
    service.twists.append(lambda e: e.method == "GET" and together.wait() < 0)
    with registry.open_blob(digest) as opened, ThreadPoolExecutor(4) as pool:

        def part(number):
            found = bytearray(100)
            opened.read_into(memoryview(found), 100 * number)
            return bytes(found)

        assert b"".join(pool.map(part, range(4))) == data[:400]


def test_what_is_beyond_the_end_is_refused_without_asking(registry, blob, service):
    with pytest.raises(SealBroken, match="ends before"):
        read(registry, blob[0], len(blob[1]) - 5, 6)
    assert service.count("GET") == 0


def test_a_blob_that_is_not_there_is_unreadable(registry):
    with pytest.raises(FileUnreadable, match="team/model has no blob"):
        registry.open_blob(digest_bytes(b"never"))
    assert not registry.has_blob(Descriptor.of("x", b"never"))


def test_a_server_without_ranges_gives_small_blobs_whole_and_once(registry, blob, service):
    digest, data = blob
    service.twists.append(lambda e: e.method == "GET" and e.reply(200, service.blobs[e.path.rpartition("/")[2]]))
    with registry.open_blob(digest) as opened:
        for offset in (3, 500, 0):
            found = bytearray(100)
            opened.read_into(memoryview(found), offset)
            assert bytes(found) == data[offset : offset + 100]
    assert service.count("GET") == 1


def test_a_server_without_ranges_gives_nothing_of_large_blobs(registry, blob, service, monkeypatch):
    monkeypatch.setattr(blobs, "MAX_WHOLE_BYTES", 1000)
    service.twists.append(lambda e: e.method == "GET" and e.reply(200, blob[1]))
    with pytest.raises(ServiceUnavailable, match="only as a whole") as caught:
        read(registry, blob[0], 3, 100)
    assert "ranges" in caught.value.remedy
    assert read(registry, blob[0], 0, len(blob[1])) == blob[1]


LIES = {
    "another first byte": lambda e, d: e.reply(206, d[:100], content_range=f"bytes 1-100/{len(d)}"),
    "another last byte": lambda e, d: e.reply(206, d[:100], content_range=f"bytes 0-98/{len(d)}"),
    "another size": lambda e, d: e.reply(206, d[:100], content_range=f"bytes 0-99/{len(d) + 1}"),
    "an unknown size": lambda e, d: e.reply(206, d[:100], content_range="bytes 0-99/*"),
    "no range": lambda e, d: e.reply(206, d[:100]),
    "another unit": lambda e, d: e.reply(206, d[:100], content_range=f"lines 0-99/{len(d)}"),
    "a range of digits without end": lambda e, d: e.reply(206, d[:100], content_range="bytes 0-99/" + "1" * 5000),
    "more bytes": lambda e, d: e.reply(206, d[:101], content_range=f"bytes 0-99/{len(d)}"),
    "fewer bytes": lambda e, d: e.reply(206, d[:99], content_range=f"bytes 0-99/{len(d)}"),
    "a whole of another length": lambda e, d: e.reply(200, d[:-1]),
    "no such range": lambda e, _: e.reply(416),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_lie_about_ranges_and_lengths_is_refused_with_its_place(registry, blob, service, client, lie):
    service.twists.append(lambda e: e.method == "GET" and lie(e, blob[1]))
    with pytest.raises(SealBroken) as caught:
        read(registry, blob[0], 0, 100)
    assert caught.value.detail == f"{blob[0]} at byte 0"
    assert client.waits == []


def test_more_bytes_than_a_range_has_are_refused_with_their_place(registry, blob, service):
    def chunked(exchange):
        handler = exchange._handler
        handler.send_response(206)
        handler.send_header("content-range", f"bytes 5-14/{len(blob[1])}")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"b\r\n" + blob[1][5:16] + b"\r\n0\r\n\r\n")
        return True

    service.twists.append(lambda e: e.method == "GET" and chunked(e))
    with pytest.raises(SealBroken, match="more bytes") as caught:
        read(registry, blob[0], 5, 10)
    assert caught.value.detail == f"{blob[0]} at byte 5"


FAULTS = {
    "reset": lambda e, _: e.cut(),
    "cut in the body": lambda e, d: e.reply(206, d[:40], length=100, content_range=f"bytes 0-99/{len(d)}"),
    "busy": lambda e, _: e.reply(503),
    "too many requests": lambda e, _: e.reply(429, retry_after="7"),
    "broken": lambda e, _: e.reply(500),
    "gateway": lambda e, _: e.reply(502, b"<html>"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_that_passes_is_waited_for(registry, blob, service, client, fault):
    service.twist("GET", "blobs", lambda e: fault(e, blob[1]), times=3)
    assert read(registry, blob[0], 0, 100) == blob[1][:100]
    assert len(client.waits) == 3


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_that_stays_is_unavailable_after_a_few_attempts(registry, blob, service, client, fault):
    service.twists.append(lambda e: e.method == "GET" and fault(e, blob[1]))
    with pytest.raises(ServiceUnavailable, match="4 times in a row") as caught:
        read(registry, blob[0], 0, 100)
    assert caught.value.detail == f"{blob[0]} at byte 0"
    assert service.count("GET") == 4
    assert len(client.waits) == 3


def test_waits_grow_and_what_the_server_asks_for_is_given_if_it_is_not_too_much(registry, blob, service, client):
    service.twist("GET", "blobs", lambda e: e.reply(503), times=3)
    read(registry, blob[0], 0, 10)
    assert all(low <= wait <= high for wait, (low, high) in zip(client.waits, ((0.5, 1), (1, 2), (2, 4)), strict=True))
    client.waits.clear()
    service.twist("GET", "blobs", lambda e: e.reply(429, retry_after="29"))
    read(registry, blob[0], 0, 10)
    assert client.waits == [29.0]
    service.twist("GET", "blobs", lambda e: e.reply(429, retry_after="31"))
    with pytest.raises(ServiceUnavailable):
        read(registry, blob[0], 0, 10)
    assert client.waits == [29.0]


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("7", 7.0), ("", None), ("-7", None), ("soon", None), ("7" * 5000, 777777777777.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0), ("Thu, 01 Jan 2026 00:00:00 -0000", None),
        ("Thu, 99999999999999999999 Jan 2026 00:00:00 GMT", None),
    ],
)  # fmt: skip
def test_how_long_a_server_asks_us_to_wait_is_read_or_passed_over(stated, seconds):
    headers = httpx2.Headers({b"date": b"Thu, 01 Jan 2026 00:00:00 GMT", b"retry-after": stated.encode()})
    assert retry_after(headers) == seconds


def test_a_server_that_stalls_is_given_up(client, service, blob):
    release = threading.Event()
    registry = client.registry(service.place, timeout=0.2, attempts=2)
    service.twists.append(lambda e: e.method == "GET" and release.wait(20) and e.cut())
    try:
        with pytest.raises(ServiceUnavailable, match="did not answer in time"):
            read(registry, blob[0], 0, 100)
    finally:
        release.set()


def test_a_server_that_drips_is_given_up(client, service, blob):
    http = client.http(attempts=2, deadline=10.0)
    registry = OciRegistry(parse_reference(f"oci://{service.place}/team/model", {})[0], http=http, environ={})
    with registry.open_blob(blob[0]) as opened:
        hours = itertools.count(0.0, 3600.0)
        http.clock = lambda: next(hours)  # an hour between two pieces of a body
        with pytest.raises(ServiceUnavailable, match="too slow"):
            opened.read_into(memoryview(bytearray(10)), 0)


def test_a_compressed_body_is_refused(registry, blob, service):
    service.twists.append(lambda e: e.method == "GET" and e.reply(206, b"x", content_encoding="gzip"))
    with pytest.raises(ServiceUnavailable, match="compressed"):
        read(registry, blob[0], 0, 100)


def test_a_size_that_the_answer_to_head_does_not_tell_is_asked_for(registry, blob, service):
    def head(exchange):
        handler = exchange._handler
        handler.send_response(200)
        handler.end_headers()
        return True

    service.twists.append(lambda e: e.method == "HEAD" and head(e))
    assert read(registry, blob[0], 0, 100) == blob[1][:100]
    service.twists.append(lambda e: e.method == "GET" and e.reply(200, b"x"))
    with pytest.raises(ServiceUnavailable, match="how long"):
        registry.open_blob(blob[0])


REDIRECTS = {
    "http elsewhere": "http://elsewhere.invalid/x",
    "nowhere": "",
    "another scheme": "file:///etc/passwd",
    "a user": "https://ann:rain@elsewhere.invalid/",
    "no host": "https:///x",
    "too long": "/" + "x" * 9000,
}


@pytest.mark.parametrize("target", REDIRECTS.values(), ids=REDIRECTS.keys())
def test_a_redirect_to_where_nothing_is_sent_is_refused(registry, blob, service, client, target):
    service.twists.append(lambda e: e.method == "GET" and e.reply(302, location=target))
    with pytest.raises(ServiceUnavailable) as caught:
        read(registry, blob[0], 0, 100)
    assert caught.value.detail == "Location"
    assert client.waits == []


def test_redirects_without_end_are_given_up(registry, blob, service):
    service.twists.append(lambda e: e.method == "GET" and e.reply(302, location=e.target))
    with pytest.raises(ServiceUnavailable, match="again and again"):
        read(registry, blob[0], 0, 100)
    assert service.count("GET") == 6


def test_a_small_blob_is_checked_against_its_digest(registry, blob, service):
    digest, data = blob
    descriptor = Descriptor("x", digest, len(data))
    assert read_small(registry, descriptor, limit=1 << 20) == data
    service.blobs[digest] = bytes(len(data))
    with pytest.raises(SealBroken, match="digest"):
        read_small(registry, descriptor, limit=1 << 20)
    service.blobs[digest] = data + b"x"
    with pytest.raises(SealBroken, match="size"):
        read_small(registry, descriptor, limit=1 << 20)


# --- writing ------------------------------------------------------------------------------------------------------------


def test_a_small_blob_goes_at_once_and_is_not_sent_where_it_is(registry, service):
    digest = write_small(registry, b"small")
    assert service.blobs[digest] == b"small"
    assert [one.method for one in service.seen] == ["HEAD", "POST", "PUT"]
    write_small(registry, b"small")
    assert [one.method for one in service.seen[3:]] == ["HEAD"]
    assert registry.has_blob(Descriptor.of("x", b"small"))
    assert not registry.has_blob(Descriptor("x", digest, 6))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 700])
def test_a_large_blob_goes_in_chunks(registry, service, size):
    data = bytes(range(256)) * (size // 256 + 1)
    digest, told = upload(registry, data[:size])
    assert service.blobs[digest] == data[:size]
    assert told == size
    assert service.sessions == {}
    ranges = [one.headers["content-range"] for one in service.seen if one.method == "PATCH"]
    if size > CHUNK:
        assert ranges[0] == "0-999"
        assert int(ranges[-1].split("-")[1]) == size - 1


def test_a_registry_may_want_larger_chunks_but_not_any(registry, service):
    def opened(exchange, least):
        service.sessions["mine"] = bytearray()
        there = "/v2/team/model/blobs/uploads/mine"
        return exchange.reply(202, location=there, oci_chunk_min_length=str(least))

    service.twist("POST", "uploads", lambda e: opened(e, 2500))
    upload(registry, bytes(4000))
    sizes = [one.headers["content-length"] for one in service.seen if one.method == "PATCH"]
    assert sizes == ["2500", "1500"]
    for odd in ("-1", "x", str(1 << 40)):
        service.twist("POST", "uploads", lambda e, odd=odd: opened(e, odd))
        with pytest.raises(ServiceUnavailable, match="chunks"):
            upload(registry, bytes(5000))


def cut_after(service, count):
    """Take `count` bytes of a chunk, then reset the connection."""

    def act(exchange):
        session = exchange.path.rpartition("/")[2]
        service.sessions[session] += exchange.read(count)
        return exchange.cut()

    return act


@pytest.mark.parametrize("taken", [0, 1, 400, 999])
def test_a_broken_upload_goes_on_where_the_registry_has_it(registry, service, client, taken):
    data = bytes(range(256)) * 16
    service.twist("PATCH", "uploads", cut_after(service, taken), times=1, after=1)
    digest, _ = upload(registry, data)
    assert service.blobs[digest] == data
    again = [one.headers["content-range"] for one in service.seen if one.method == "PATCH"][2]
    assert again == f"{1000 + taken}-1999"
    assert len(client.waits) == 1


def test_a_chunk_that_is_taken_only_in_part_is_sent_again_from_there(registry, service):
    def half(exchange):
        session = exchange.path.rpartition("/")[2]
        service.sessions[session] += exchange.read(600)
        return exchange.reply(202, location=exchange.path, range=f"0-{len(service.sessions[session]) - 1}")

    data = bytes(range(256)) * 10
    service.twist("PATCH", "uploads", half, times=1)
    assert service.blobs[upload(registry, data)[0]] == data


@pytest.mark.parametrize("stands", [None, "0-98", "0-5000", "100-200", "x"])
def test_an_upload_that_the_registry_lost_or_makes_up_is_lost(registry, service, stands):
    def where(exchange):
        return exchange.reply(404) if stands is None else exchange.reply(204, location=exchange.path, range=stands)

    service.twist("PATCH", "uploads", lambda e: e.cut(), after=2)
    service.twist("GET", "uploads", where)
    with pytest.raises(UploadLost) as caught:
        upload(registry, bytes(5000))
    assert "seal into a folder" in caught.value.remedy
    assert service.blobs == {}
    assert service.sessions == {}  # it was told that nothing more comes


def test_a_chunk_that_never_arrives_ends_after_a_few_attempts(registry, service):
    service.twist("PATCH", "uploads", lambda e: e.cut(), times=99)
    with pytest.raises(ServiceUnavailable, match="4 times in a row"):
        upload(registry, bytes(5000))
    assert service.count("PATCH") == 4
    assert service.blobs == {}


@pytest.mark.parametrize("answer", [200, 201, 204, 302, 400, 405])
def test_what_is_not_an_upload_is_refused(registry, service, answer):
    service.twist("POST", "uploads", lambda e: e.reply(answer, location="/x"), times=9)
    with pytest.raises(ServiceUnavailable, match=f"answered {answer}"):
        write_small(registry, b"data")


@pytest.mark.parametrize(
    "location", [None, "", "http://elsewhere.invalid/", "https://a:b@elsewhere.invalid/", "ftp://x/"]
)
def test_an_upload_without_a_session_is_refused(registry, service, client, location):
    said = {} if location is None else {"location": location}
    service.twist("POST", "uploads", lambda e: e.reply(202, **said), times=9)
    for data in (b"data", bytes(5000)):
        with pytest.raises(ServiceUnavailable) as caught:
            upload(registry, data)
        assert caught.value.detail == "Location"
    assert client.waits == []


def test_other_bytes_at_the_registry_than_were_sent_are_refused(registry, service):
    service.twist("PATCH", "uploads", lambda e: spoilt(service, e))
    with pytest.raises(SealBroken, match="other bytes"):
        upload(registry, bytes(5000))
    assert service.blobs == {}


def spoilt(service, exchange):
    data = bytearray(exchange.read())
    data[3] ^= 1
    session = exchange.path.rpartition("/")[2]
    service.sessions[session] += data
    return exchange.reply(202, location=exchange.path, range=f"0-{len(service.sessions[session]) - 1}")


def test_an_end_whose_answer_is_lost_is_looked_for(registry, service):
    def lost(exchange):
        service._upload(Muted(exchange), "team/model", exchange.path.rpartition("/")[2])
        return exchange.cut()

    service.twist("PUT", "uploads", lost)
    data = bytes(range(256)) * 10
    digest, _ = upload(registry, data)
    assert service.blobs[digest] == data
    assert service.count("PUT") == 1


class Muted:
    """An exchange whose answer nobody hears."""

    def __init__(self, exchange):
        self.exchange = exchange

    def __getattr__(self, name):
        return (lambda *_, **__: True) if name == "reply" else getattr(self.exchange, name)


@pytest.mark.parametrize("size", [5, 5000])
def test_an_end_that_is_refused_for_a_while_is_tried_again(registry, service, client, size):
    service.twist("PUT", "uploads", lambda e: e.reply(503), times=2)
    digest, _ = upload(registry, bytes(size))
    assert service.blobs[digest] == bytes(size)
    assert len(client.waits) == 2


def test_what_was_not_committed_is_cancelled(registry, service):
    with registry.push_blob() as writer:
        writer._chunk = 10
        writer.write(bytes(15))
    assert service.sessions == {}
    assert service.blobs == {}


def test_another_blob_than_was_expected_is_not_kept(registry, service):
    for data in (b"other", bytes(5000)):
        with registry.push_known(Descriptor.of("x", b"expected")) as writer:
            writer._chunk = CHUNK
            writer.write(data)
            with pytest.raises(SealBroken):
                writer.commit()
    assert service.blobs == {}
    assert service.sessions == {}


def test_a_registry_that_is_full_says_so(registry, service):
    service.twist("PUT", "uploads", lambda e: e.reply(507), times=9)
    with pytest.raises(Exception, match="no room") as caught:
        write_small(registry, b"x")
    assert caught.value.code == "store.unavailable"


# --- the wire -----------------------------------------------------------------------------------------------------------


def test_a_server_that_does_not_speak_http_is_unavailable(client):
    with raw_server(b"SSH-2.0-OpenSSH\r\n") as (url, _), pytest.raises(ServiceUnavailable):
        client.registry(url.removeprefix("http://"), attempts=2).resolve("latest")


def test_headers_without_end_are_unavailable(client):
    with raw_server(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000) as (url, _), pytest.raises(ServiceUnavailable):
        client.registry(url.removeprefix("http://"), attempts=2).resolve("latest")


def test_nobody_there_is_unavailable(client):
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        client.registry("127.0.0.1:1", attempts=2).resolve("latest")


def test_what_is_for_this_machine_goes_past_a_proxy(client, service, blob, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert read(client.registry(service.place), blob[0], 0, 10) == blob[1][:10]


def test_others_are_spoken_to_over_tls_through_the_proxy_and_their_certificate_counts(
    client, web_certificate, monkeypatch
):
    chain, key, root = web_certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    body = b'{"schemaVersion":2}'

    def tunnel(connection):
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as inside:
            inside.recv(65536)
            inside.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    with raw_server(tunnel) as (url, requests):
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(ServiceUnavailable, match="certificate"):  # nobody vouches for this server, asked once
            client.registry("pcs.invalid").resolve("latest")
        assert len(requests) == 1
        monkeypatch.setenv("SSL_CERT_FILE", str(root))
        assert client.registry("pcs.invalid").resolve("latest") == digest_bytes(body)
