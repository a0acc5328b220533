import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from vendors import Reply, Service, raw_server

from strongroom.collateral.http import Backoff, Http, base_of
from strongroom.errors import MalformedEvidence, ServiceUnavailable, UsageError

LIMIT = 4096


def answering(*replies):
    """One reply after another, the last again and again."""
    return Service({"/": lambda times: replies[min(times, len(replies) - 1)]})


def raw(body, *, length=None, status="200 OK", extra=""):
    said = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {said}\r\n{extra}\r\n".encode() + body


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_body_comes_whole_with_its_headers(serve, hurry):
    answer = hurry.http().get(serve(answering(Reply(b"rain", headers={"x-chain": "a"}))) + "/", limit=LIMIT)
    assert (answer.body, answer.headers["X-Chain"], hurry.waits) == (b"rain", "a", [])


def test_a_redirect_is_not_followed(serve, hurry):
    target = answering(Reply(b"elsewhere"))
    for status in (301, 302, 303, 307, 308):
        service = answering(Reply(status=status, headers={"location": serve(target) + "/"}))
        with pytest.raises(ServiceUnavailable, match="redirect"):
            hurry.http().get(serve(service) + "/", limit=LIMIT)
    assert target.seen == []


def test_cookies_are_not_kept(serve, hurry):
    service = answering(Reply(b"rain", headers={"set-cookie": "who=me; Path=/"}))
    http, url = hurry.http(), serve(service)
    http.get(url + "/", limit=LIMIT)
    http.get(url + "/", limit=LIMIT)
    assert len(service.headers) == 2
    assert not any("cookie" in headers for headers in service.headers)


def test_a_request_says_little_and_asks_for_no_compression(serve, hurry):
    service = answering(Reply(b"rain"))
    hurry.http().get(serve(service) + "/", limit=LIMIT)
    assert service.headers[0].keys() <= {"host", "accept", "accept-encoding", "connection", "user-agent"}
    assert service.headers[0]["accept-encoding"] == "identity"


def test_a_compressed_body_is_refused(serve, hurry):
    import gzip

    bomb = gzip.compress(bytes(50_000_000))
    service = answering(Reply(bomb, headers={"content-encoding": "gzip"}))
    with pytest.raises(MalformedEvidence, match="compressed"):
        hurry.http().get(serve(service) + "/", limit=1 << 20)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(serve, hurry, chunked):
    service = answering(Reply(bytes(LIMIT + 1), chunked=chunked))
    with pytest.raises(MalformedEvidence, match=str(LIMIT)):
        hurry.http().get(serve(service) + "/", limit=LIMIT)
    exact = answering(Reply(bytes(LIMIT), chunked=chunked))
    assert len(hurry.http().get(serve(exact) + "/", limit=LIMIT).body) == LIMIT


@pytest.mark.parametrize("declared", ["9" * 30, "9" * 5000, "-1", "1e3", "4097"])
def test_an_announcement_of_too_much_is_refused_before_anything_is_read(hurry, declared):
    with raw_server(raw(b"x", length=declared)) as (url, _), pytest.raises((MalformedEvidence, ServiceUnavailable)):
        hurry.http(attempts=1).get(url, limit=LIMIT)


def test_another_content_type_is_refused(serve, hurry):
    for said in ({}, {"content-type": "text/html"}, {"content-type": "application/jsonp"}):
        with pytest.raises(MalformedEvidence, match="application/json"):
            hurry.http().get(
                serve(answering(Reply(b"{}", headers=said))) + "/", limit=9, content_type="application/json"
            )
    good = answering(Reply(b"{}", headers={"content-type": "Application/JSON; charset=utf-8"}))
    assert hurry.http().get(serve(good) + "/", limit=9, content_type="application/json").body == b"{}"


def test_a_page_is_no_certificate(serve, hurry):
    service = answering(Reply(b"<html>", headers={"content-type": "text/html; charset=utf-8"}))
    with pytest.raises(MalformedEvidence, match="page"):
        hurry.http().get(serve(service) + "/", limit=LIMIT)


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 410, 451])
def test_what_is_not_there_is_asked_for_once(serve, hurry, status):
    service = answering(Reply(status=status))
    with pytest.raises(ServiceUnavailable, match=str(status)):
        hurry.http().get(serve(service) + "/", limit=LIMIT)
    assert (len(service.seen), hurry.waits) == (1, [])


# --- back-off ---------------------------------------------------------------------------------------------------------


def test_a_rate_limit_with_a_time_is_waited_for_exactly(serve, hurry):
    service = answering(Reply(status=429, headers={"retry-after": "7"}), Reply(b"rain"))
    assert hurry.http().get(serve(service) + "/", limit=LIMIT).body == b"rain"
    assert hurry.waits == [7.0]


def test_a_rate_limit_with_a_date_is_waited_for_by_the_servers_own_clock(serve, hurry):
    def http_date(moment):
        return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")

    server_now = datetime(2031, 5, 5, 12, 0, 0, tzinfo=UTC)  # a server whose clock is wrong by years
    headers = {"date": http_date(server_now), "retry-after": http_date(server_now + timedelta(seconds=9))}
    service = answering(Reply(status=429, headers=headers), Reply(b"rain"))
    hurry.http().get(serve(service) + "/", limit=LIMIT)
    assert hurry.waits == [9.0]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"retry-after": "soon"},
        {"retry-after": "-3"},
        {"retry-after": ""},
        {"retry-after": "Thu, 99999999999999999999 Jan 2026 00:00:00 GMT"},
    ],
)
def test_a_rate_limit_without_a_time_is_waited_for_longer_each_time_and_at_random(serve, hurry, said):
    service = answering(*[Reply(status=429, headers=said)] * 3, Reply(b"rain"))
    hurry.http(first=1.0).get(serve(service) + "/", limit=LIMIT)
    assert len(hurry.waits) == 3
    for wait, most in zip(hurry.waits, (1.0, 2.0, 4.0), strict=True):
        assert most / 2 <= wait <= most
    assert hurry.waits != [1.0, 2.0, 4.0]


def test_attempts_are_bounded_and_so_are_waits(serve, hurry):
    service = answering(Reply(status=503))
    with pytest.raises(ServiceUnavailable, match="503, 6 times"):
        hurry.http(attempts=6, first=10.0, longest=15.0).get(serve(service) + "/", limit=LIMIT)
    assert len(service.seen) == 6
    assert len(hurry.waits) == 5
    assert max(hurry.waits) <= 15.0


def test_a_server_that_wants_more_time_than_we_have_is_left_alone_by_everybody(serve, hurry):
    service = answering(Reply(status=429, headers={"retry-after": "600"}), Reply(b"rain"))
    http, url = hurry.http(longest=30.0), serve(service)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="takes no requests for another"):
            http.get(url + "/", limit=LIMIT)
    assert (len(service.seen), hurry.waits) == (1, [])
    assert hurry.http().get(url + "/", limit=LIMIT).body == b"rain"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_that_recovers_is_asked_again(serve, hurry, status):
    service = answering(Reply(status=status), Reply(b"rain"))
    assert hurry.http().get(serve(service) + "/", limit=LIMIT).body == b"rain"


def test_the_real_clock_is_waited_on_by_default(serve):
    service = answering(Reply(status=500), Reply(b"rain"))
    start = time.monotonic()
    Http(backoff=Backoff(attempts=2, first=0.2)).get(serve(service) + "/", limit=LIMIT)
    assert time.monotonic() - start >= 0.1


# --- connections ------------------------------------------------------------------------------------------------------


def test_a_body_that_ends_early_is_asked_for_again_and_never_taken(hurry):
    with raw_server(raw(b"half", length=100)) as (url, requests):
        with pytest.raises(ServiceUnavailable, match="RemoteProtocolError"):
            hurry.http(attempts=3).get(url, limit=LIMIT)
        assert len(requests) == 3
    with raw_server(raw(b"half", length=100), raw(b"whole")) as (url, _):
        assert hurry.http().get(url, limit=LIMIT).body == b"whole"


def test_a_length_that_lies_downward_cuts_the_body_and_leaves_the_rest(hurry):
    with raw_server(raw(b'{"tcbInfo":{}}', length=5)) as (url, _):
        assert hurry.http().get(url, limit=LIMIT).body == b'{"tcb'


@pytest.mark.parametrize(
    "script", [b"", b"rain\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"]
)
def test_what_is_no_http_is_no_answer(hurry, script):
    with raw_server(script) as (url, _), pytest.raises((ServiceUnavailable, MalformedEvidence)):
        hurry.http(attempts=2).get(url, limit=LIMIT)


def test_headers_without_end_are_no_answer(hurry):
    def flood(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %s\r\n" % (i, b"y" * 1000) for i in range(2000)))

    with raw_server(flood) as (url, _), pytest.raises(ServiceUnavailable):
        hurry.http(attempts=1).get(url, limit=LIMIT)


def test_silence_ends_at_the_timeout(hurry):
    with raw_server(lambda connection: connection.recv(1)) as (url, _):
        start = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="in time, 2 times"):
            hurry.http(attempts=2, timeout=0.2).get(url, limit=LIMIT)
        assert time.monotonic() - start < 5


def test_a_body_that_drips_ends_at_the_deadline(hurry):
    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.02)

    with raw_server(drip) as (url, _), pytest.raises(ServiceUnavailable, match="too slow"):
        hurry.http(attempts=1, timeout=5.0, deadline=0.3).get(url, limit=LIMIT)


def test_nobody_there_is_unavailable(hurry):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ServiceUnavailable, match="ConnectError"):
        hurry.http(attempts=2).get(f"http://127.0.0.1:{port}/", limit=LIMIT)


def test_a_transport_of_the_callers_own_is_used():
    http = Http(
        transport=httpx2.MockTransport(lambda request: httpx2.Response(200, content=iter([str(request.url).encode()])))
    )
    assert http.get("https://example.org/a?b=c", limit=LIMIT).body == b"https://example.org/a?b=c"


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "host", "ftp://host", "file:///etc/passwd", "http://", "https://user:word@host", "http://[::1", "data:,x"],
)
def test_what_is_no_address_of_a_service_is_refused(url):
    with pytest.raises(UsageError):
        base_of(url)


def test_a_base_has_no_query_and_no_slash_at_its_end():
    assert base_of("https://mirror.example/intel/") == "https://mirror.example/intel"
    for url in ("https://mirror.example/?a=b", "https://mirror.example/#x"):
        with pytest.raises(UsageError):
            base_of(url)


# --- proxies ----------------------------------------------------------------------------------------------------------


def test_an_http_proxy_is_gone_through(serve, hurry, monkeypatch):
    proxy = Service({"http://pcs.invalid/tdx?a=b": Reply(b"through the proxy")})
    monkeypatch.setenv("HTTP_PROXY", serve(proxy))
    assert hurry.http().get("http://pcs.invalid/tdx?a=b", limit=LIMIT).body == b"through the proxy"
    assert proxy.seen == ["http://pcs.invalid/tdx?a=b"]


def test_hosts_of_no_proxy_are_asked_directly(serve, hurry, monkeypatch):
    proxy, service = Service(), answering(Reply(b"direct"))
    monkeypatch.setenv("HTTP_PROXY", serve(proxy))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert hurry.http().get(serve(service) + "/", limit=LIMIT).body == b"direct"
    assert proxy.seen == []


def test_an_https_proxy_tunnels_and_the_servers_certificate_still_counts(hurry, monkeypatch, web_certificate):
    chain, key, root = web_certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)

    def tunnel(connection):
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as inside:
            inside.recv(65536)
            inside.sendall(raw(b"through the tunnel"))

    with raw_server(tunnel) as (url, requests):
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(ServiceUnavailable, match="ConnectError"):  # nobody vouches for this server
            hurry.http(attempts=1).get("https://pcs.invalid/tdx", limit=LIMIT)
        monkeypatch.setenv("SSL_CERT_FILE", str(root))
        assert hurry.http(attempts=1).get("https://pcs.invalid/tdx", limit=LIMIT).body == b"through the tunnel"
        assert all(request.startswith(b"CONNECT pcs.invalid:443 HTTP/1.1\r\n") for request in requests)
        assert len(requests) == 2


def test_a_proxy_that_refuses_is_unavailable(hurry, monkeypatch):
    with raw_server(raw(b"", status="407 Proxy Authentication Required")) as (url, requests):
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(ServiceUnavailable, match="ProxyError"):
            hurry.http(attempts=2).get("https://pcs.invalid/", limit=LIMIT)
        assert len(requests) == 2


def test_many_threads_may_share_one(serve, hurry):
    http, url = hurry.http(), serve(answering(Reply(b"rain")))
    bodies = []
    threads = [threading.Thread(target=lambda: bodies.append(http.get(url + "/", limit=9).body)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    http.close()
    assert bodies == [b"rain"] * 16
