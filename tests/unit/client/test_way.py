"""Through a company's proxy and past its authorities: every request goes that way, and the pin holds on it."""

import asyncio
import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from world import SETTINGS, Served, World, world

from strongroom.channel.pinning import TlsKey
from strongroom.client.client import AsyncClient
from strongroom.client.way import Way, way_to
from strongroom.errors import FileUnreadable, ServiceUnavailable, TlsKeyMismatch, UsageError
from strongroom.services.server import BackgroundServer

NAME = "worker.test"


class ConnectProxy:
    """A proxy that knows where `worker.test` is, and counts whom it was asked for; `url` while it runs."""

    def __init__(self, port: int) -> None:
        self.port, self.asked = port, list[bytes]()
        self._thread: Any = None

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.split(b"\r\n")[0]
        self.asked.append(line)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.port)
        if line.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            method, target, version = line.split(b" ")
            path = b"/" + target.split(b"/", 3)[3]
            inner_writer.write(head.replace(line, b" ".join((method, path, version)), 1))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except ConnectionError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    def __enter__(self) -> Self:
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._up.wait(10)
        return self

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._up.set()
        await self._stop.wait()
        server.close()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Served]]:
    with (
        world(tmp_path_factory.mktemp("world"), settings={**SETTINGS, "tls": 1}) as made,
        made.serving() as served,
    ):
        assert served.error is None, served.error
        yield made, served


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_evidence_and_requests_go_through_the_proxy_and_the_pin_holds(pinned, monkeypatch):
    made, served = pinned
    with ConnectProxy(port_of(served.url)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        client = made.client(f"https://{NAME}:7443")
        client.verify()
        assert proxy.asked == [f"CONNECT {NAME}:7443 HTTP/1.1".encode()]
        assert client.ask("x")
        assert len(proxy.asked) == 2
        assert client.verification.keyset.tls is not None


def test_the_asynchronous_client_goes_the_same_way(pinned, monkeypatch):
    made, served = pinned
    with ConnectProxy(port_of(served.url)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        client = AsyncClient(
            f"https://{NAME}:7443",
            policy=made.policy,
            anchor=made.anchor_file,
            broker=made.broker.identity.fingerprint,
            accept_simulated=True,
        )
        assert asyncio.run(client.ask("x"))
        assert len(proxy.asked) == 2


def test_a_proxy_that_ends_tls_itself_is_refused_and_gets_no_request(pinned, monkeypatch):
    made, served = pinned
    asked: list[str] = []

    async def middle(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        asked.append(scope["path"])
        async with httpx2.AsyncClient(verify=False, trust_env=False) as http:
            answer = await http.request(scope["method"], served.url + scope["path"], content=body)
        await send({"type": "http.response.start", "status": answer.status_code, "headers": []})
        await send({"type": "http.response.body", "body": answer.content})

    own = TlsKey.generate(now=1_800_000_000, not_after=1_800_000_060)
    with BackgroundServer(middle, tls=own.server_context()) as ending, ConnectProxy(ending.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(TlsKeyMismatch):
            made.client(f"https://{NAME}:7443").ask("canary")
    assert asked == ["/.well-known/strongroom/evidence"]


def test_a_worker_that_is_excepted_is_not_asked_of_the_proxy(pinned, monkeypatch):
    made, served = pinned
    with ConnectProxy(port_of(served.url)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", f"elsewhere.test, {NAME}")
        with pytest.raises(ServiceUnavailable):
            made.client(f"https://{NAME}:7443").verify()
        made.client(served.url).verify()  # loopback
    assert proxy.asked == []


def test_a_worker_in_the_clear_is_asked_through_http_proxy(made, served, monkeypatch):
    with ConnectProxy(port_of(served.url)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client = made.client(f"http://{NAME}")
        assert client.ask("x")
    assert all(line.startswith(b"POST http://worker.test/.well-known/strongroom/") for line in proxy.asked)
    assert proxy.asked


# --- a company's own authority ------------------------------------------------------------------------------------------


def authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A root in PEM, and the context of a server for localhost whose certificate it signed."""
    now = dt.datetime.now(dt.UTC)

    def certificate(name: str, key: Any, issuer: str, signer: Any, *, ca: bool) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(signer, SHA256())
        )

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Corporate Root", root_key, "Corporate Root", root_key, ca=True)
    leaf = certificate("localhost", key, "Corporate Root", root_key, ca=False)
    file, chain = folder / "corporate.pem", folder / "chain.pem"
    file.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return file, context


@pytest.fixture
def corporate(served, tmp_path) -> Iterator[tuple[str, Path]]:
    """What ends TLS before a worker that speaks none: its address, and the authority's PEM."""
    file, context = authority(tmp_path)

    async def load_balancer(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = [(name, value) for name, value in scope["headers"] if name not in {b"host", b"transfer-encoding"}]
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.request(scope["method"], served.url + scope["path"], content=body, headers=headers)
        sent = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() == b"content-type"]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": sent})
        await send({"type": "http.response.body", "body": answer.content})

    with BackgroundServer(load_balancer, tls=context) as server:
        yield f"https://localhost:{server.port}", file


def test_a_corporate_root_counts_where_it_is_given_by_option_or_environment(made, corporate, monkeypatch):
    url, file = corporate
    with pytest.raises(ServiceUnavailable):
        made.client(url).ask("x")
    assert made.client(url, ca=file).ask("x")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert made.client(url).ask("x")


def test_a_corporate_root_does_not_replace_the_workers_own_key(pinned, corporate):
    """The worker names a TLS key in its evidence: then no authority's word counts."""
    made, served = pinned
    _, file = corporate
    assert made.client(served.url, ca=file).ask("x")


def test_a_file_without_certificates_is_refused(made, tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    for path in (tmp_path / "nowhere.pem", tmp_path / "empty.pem"):
        with pytest.raises(FileUnreadable):
            made.client("https://worker.test", ca=path)


# --- the rules alone ------------------------------------------------------------------------------------------------------

P = "http://proxy.test:3128"
RULES = [
    ("https://worker.test", {"HTTPS_PROXY": P}, True),
    ("https://worker.test", {"https_proxy": P}, True),
    ("https://worker.test", {"https_proxy": "", "HTTPS_PROXY": P}, False),
    ("https://worker.test", {"ALL_PROXY": P}, True),
    ("https://worker.test", {"HTTP_PROXY": P}, False),
    ("http://worker.test", {"HTTP_PROXY": P}, True),
    ("http://worker.test", {"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, False),
    ("http://worker.test", {"http_proxy": P, "REQUEST_METHOD": "GET"}, True),
    ("https://worker.test", {"HTTPS_PROXY": P, "NO_PROXY": "*"}, False),
    ("https://worker.test", {"HTTPS_PROXY": P, "NO_PROXY": "test"}, False),
    ("https://worker.test", {"HTTPS_PROXY": P, "NO_PROXY": ".worker.test"}, False),
    ("https://a.worker.test", {"HTTPS_PROXY": P, "NO_PROXY": "*.worker.test"}, False),
    ("https://notworker.test", {"HTTPS_PROXY": P, "NO_PROXY": "worker.test"}, True),
    ("https://worker.test", {"HTTPS_PROXY": P, "NO_PROXY": "worker.test:8443"}, True),
    ("https://worker.test:8443", {"HTTPS_PROXY": P, "NO_PROXY": "worker.test:8443"}, False),
    ("https://WORKER.test.", {"HTTPS_PROXY": P, "NO_PROXY": "worker.test"}, False),
    ("https://10.1.2.3", {"HTTPS_PROXY": P, "NO_PROXY": "10.0.0.0/8"}, False),
    ("https://11.1.2.3", {"HTTPS_PROXY": P, "NO_PROXY": "10.0.0.0/8, , x"}, True),
    ("https://[2001:db8::1]", {"HTTPS_PROXY": P, "NO_PROXY": "[2001:db8::1]"}, False),
    ("https://[2001:db8::1]:8443", {"HTTPS_PROXY": P, "NO_PROXY": "[2001:db8::1]:443"}, True),
    ("https://127.0.0.1:8443", {"HTTPS_PROXY": P}, False),
    ("https://[::1]:8443", {"HTTPS_PROXY": P}, False),
    ("https://localhost", {"HTTPS_PROXY": P}, False),
    ("https://worker.test", {}, False),
]


@pytest.mark.parametrize(("url", "environ", "through"), RULES)
def test_which_way_a_request_goes(url, environ, through):
    way = way_to(url, environ=environ)
    assert (way.proxy is not None) == through
    assert way.proxy is None or str(way.proxy.url) == P


def test_a_proxy_without_a_scheme_is_http_and_another_scheme_is_refused_without_its_password():
    assert str(way_to("https://w.test", environ={"HTTPS_PROXY": "proxy.test:3128"}).proxy.url) == P
    for wrong in ("socks5://user:canary@proxy.test", "http://", "http://user:canary@"):
        with pytest.raises(UsageError) as refused:
            way_to("https://w.test", environ={"HTTPS_PROXY": wrong})
        assert "canary" not in str(refused.value) + refused.value.remedy


def test_a_pin_comes_before_authorities():
    pin, authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert Way(None, authorities).options(pin) == {"verify": pin}
    assert Way(None, authorities).options(None) == {"verify": authorities}
    assert Way().options(None) == {}
