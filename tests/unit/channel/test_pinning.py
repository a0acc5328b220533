"""A worker's own TLS key, pinned by clients of httpx2 and httpx: the right key serves, any other gets no byte."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from strongroom.channel import pinning
from strongroom.channel.pinning import TlsKey
from strongroom.errors import ChannelKeyMismatch, TlsKeyMismatch

NOW = int(time.time())
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Listener:
    """A TLS server of one key that counts what it is sent."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context, self.received = context, b""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.socket.getsockname()[1]}/"
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), self.context.wrap_socket(plain, server_side=True) as connection:
                connection.settimeout(10)
                while data := connection.recv(65536):
                    self.received += data
                    if self.received.endswith((b"\r\n\r\n", b"a body")):
                        connection.sendall(ANSWER)


@contextlib.contextmanager
def listening(context: ssl.SSLContext) -> Iterator[Listener]:
    listener = Listener(context)
    listener.thread.start()
    try:
        yield listener
    finally:
        listener.socket.shutdown(socket.SHUT_RDWR)
        listener.socket.close()
        listener.thread.join(15)
        assert not listener.thread.is_alive()


def ask(library: Any, asynchronous: bool, url: str, context: ssl.SSLContext, times: int = 1) -> list[int]:  # noqa: FBT001 (a way)
    async def later() -> list[int]:
        async with library.AsyncClient(transport=library.AsyncHTTPTransport(verify=context)) as http:
            return [(await http.post(url, content=b"a body")).status_code for _ in range(times)]

    if asynchronous:
        return asyncio.run(later())
    with library.Client(transport=library.HTTPTransport(verify=context)) as http:
        return [http.post(url, content=b"a body").status_code for _ in range(times)]


@pytest.fixture(params=[(httpx2, False), (httpx2, True), (httpx, False), (httpx, True)], ids=str)
def way(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_the_right_key_serves(way: Any):
    key = TlsKey.generate(now=NOW, not_after=NOW + 60)
    with listening(key.server_context()) as listener:
        assert ask(*way, listener.url, pinning.context(pinning.only(key.digest)), times=2) == [200, 200]
    assert listener.received.count(b"a body") == 2


def test_any_other_key_is_sent_no_byte(way: Any):
    key, other = (TlsKey.generate(now=NOW, not_after=NOW + 60) for _ in range(2))
    with listening(other.server_context()) as listener:
        for _ in range(2):
            with pytest.raises(TlsKeyMismatch) as caught:
                ask(*way, listener.url, pinning.context(pinning.only(key.digest)))
            assert isinstance(caught.value, ChannelKeyMismatch)
    assert listener.received == b""


def test_a_first_contact_tells_which_key_each_connection_showed(way: Any):
    key, shown = TlsKey.generate(now=NOW, not_after=NOW + 60), list[str]()
    context = pinning.context(shown.append)
    with listening(key.server_context()) as listener:
        ask(*way, listener.url, context, times=2)
        ask(*way, listener.url, context)
    assert set(shown) == {key.digest}
    assert len(shown) >= 2  # a connection each, at least


def test_an_old_version_of_tls_is_not_spoken(way: Any):
    key = TlsKey.generate(now=NOW, not_after=NOW + 60)
    context = key.server_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with listening(context) as listener, pytest.raises(way[0].ConnectError):
        ask(*way, listener.url, pinning.context(pinning.only(key.digest)))
    assert listener.received == b""


def test_what_ordinary_clients_think_of_it(way: Any):
    key = TlsKey.generate(now=NOW, not_after=NOW + 60)
    with listening(key.server_context()) as listener, pytest.raises(way[0].ConnectError):
        ask(*way, listener.url, ssl.create_default_context())
    assert listener.received == b""


def test_the_digest_is_that_of_the_subject_public_key_info():
    key = TlsKey.generate(now=NOW, not_after=NOW + 60)
    certificate = x509.load_der_x509_certificate(key.certificate)
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    assert key.digest == "sha256:" + digest.finalize().hex()
    assert TlsKey.generate(now=NOW, not_after=NOW + 60).digest != key.digest
    assert int(certificate.not_valid_after_utc.timestamp()) == NOW + 60
    assert "EllipticCurve" not in repr(key)


@pytest.mark.parametrize("certificate", [b"", b"0", b"\x30\x00", bytes(1000)])
def test_what_is_no_certificate_is_a_mismatch(certificate: bytes):
    with pytest.raises(TlsKeyMismatch):
        pinning.spki_digest(certificate)


def test_a_certificate_of_a_version_that_there_is_not_is_a_mismatch():
    good = TlsKey.generate(now=NOW, not_after=NOW + 60).certificate
    version_3 = bytes.fromhex("a003020102")
    assert good.count(version_3) == 1
    with pytest.raises(TlsKeyMismatch):
        pinning.spki_digest(good.replace(version_3, bytes.fromhex("a003020104")))
