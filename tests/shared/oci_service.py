"""A small registry (OCI distribution spec 1.1) on this machine, which a test can make behave as badly as it wants."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]


class Exchange:
    """One request, to be answered once."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self.method, self.target = handler.command, handler.path
        self.path = urlsplit(handler.path).path
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.left = int(self.headers.get("content-length", "0"))

    def read(self, count: int | None = None) -> bytes:
        """The body, or at most `count` bytes of it."""
        wanted = self.left if count is None else min(count, self.left)
        self.left -= wanted
        return self._handler.rfile.read(wanted)

    def reply(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> bool:
        """Answer; `length` is what is announced, if it is not the truth. Names of headers are written with `_`."""
        self.read()
        handler = self._handler
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body) if length is None else length))
        handler.end_headers()
        if self.method != "HEAD":
            handler.wfile.write(body)
        if length is not None and length != len(body):
            handler.close_connection = True
        return True

    def cut(self) -> bool:
        """Reset the connection."""
        connection: socket.socket = self._handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        self._handler.close_connection = True
        return True


Twist = Callable[[Exchange], object]
"""Looks at a request before the registry does; what is true says that it was answered."""


@dataclass
class OciService:
    """A registry in memory. `referrers` says whether it has the API; `users` what Basic credentials it wants."""

    referrers: bool = False
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    twists: list[Twist] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def place(self) -> str:
        return self.url.removeprefix("http://")

    def count(self, method: str, part: str = "") -> int:
        return sum(one.method == method and part in one.target for one in self.seen)

    def twist(self, method: str, part: str, act: Twist, *, times: int = 1, after: int = 0) -> None:
        """Have `act` answer the requests of this method whose target has `part`: `times` of them, `after` some."""
        numbers = iter(range(after + times))

        def twisted(exchange: Exchange) -> object:
            if exchange.method != method or part not in exchange.target:
                return False
            with self.lock:
                number = next(numbers, None)
            return number is not None and number >= after and act(exchange)

        self.twists.append(twisted)

    def serve(self, exchange: Exchange) -> object:
        with self.lock:
            self.seen.append(Seen(exchange.method, exchange.target, exchange.headers))
        for twist in list(self.twists):
            if twist(exchange):
                return True
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests|referrers)/(.+)", exchange.path)
        if found is None:
            return error(exchange, 404, "NAME_UNKNOWN")
        name, kind, rest = found.groups()
        if kind == "blobs" and (rest == "uploads/" or rest.startswith("uploads/")):
            return self._upload(exchange, name, rest.removeprefix("uploads/"))
        return {"blobs": self._blob, "manifests": self._manifest, "referrers": self._referrers}[kind](
            exchange, name, rest
        )

    def _blob(self, exchange: Exchange, _: str, digest: str) -> object:
        data = self.blobs.get(digest)
        if data is None:
            return error(exchange, 404, "BLOB_UNKNOWN")
        if exchange.method == "DELETE":
            del self.blobs[digest]
            return exchange.reply(202)
        wanted = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", exchange.headers.get("range", ""))
        if wanted is None or exchange.method == "HEAD":
            return exchange.reply(200, data)
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        if first > last:
            return exchange.reply(416, content_range=f"bytes */{len(data)}")
        return exchange.reply(206, data[first : last + 1], content_range=f"bytes {first}-{last}/{len(data)}")

    def _manifest(self, exchange: Exchange, name: str, reference: str) -> object:
        if exchange.method == "PUT":
            data, kind = exchange.read(), exchange.headers["content-type"]
            subject = json.loads(data).get("subject")
            with self.lock:
                self.manifests[name, reference] = self.manifests[name, digest_of(data)] = kind, data
            said = {"oci_subject": subject["digest"]} if subject and self.referrers else {}
            return exchange.reply(201, location=f"/v2/{name}/manifests/{digest_of(data)}", **said)
        found = self.manifests.get((name, reference))
        if found is None:
            return error(exchange, 404, "MANIFEST_UNKNOWN")
        if exchange.method == "DELETE":
            del self.manifests[name, reference]
            return exchange.reply(202)
        return exchange.reply(200, found[1], content_type=found[0], docker_content_digest="sha256:" + "0" * 64)

    def _referrers(self, exchange: Exchange, name: str, subject: str) -> object:
        if not self.referrers:
            return error(exchange, 404, "UNSUPPORTED")
        found = []
        for (there, reference), (kind, data) in list(self.manifests.items()):
            value = json.loads(data)
            if there == name and reference.startswith("sha256:") and value.get("subject", {}).get("digest") == subject:
                found.append(
                    {"mediaType": kind, "digest": reference, "size": len(data), "artifactType": value["artifactType"]}
                )
        wanted = exchange.query.get("artifactType")
        return listing(exchange, [one for one in found if wanted in (None, one["artifactType"])])

    def _upload(self, exchange: Exchange, name: str, session: str) -> object:  # noqa: PLR0911 (one for each verb)
        place = f"/v2/{name}/blobs/uploads/"
        if exchange.method == "POST":
            with self.lock:
                session = f"s{len(self.sessions)}"
                self.sessions[session] = bytearray()
            return exchange.reply(202, location=f"{place}{session}?state=1", range="0-0")
        there = self.sessions.get(session)
        if there is None:
            return error(exchange, 404, "BLOB_UPLOAD_UNKNOWN")
        if exchange.method == "PATCH":
            first, _ = exchange.headers["content-range"].split("-")
            if int(first) != len(there):
                return exchange.reply(416, range=f"0-{max(len(there) - 1, 0)}", location=f"{place}{session}")
            there += exchange.read()
            return exchange.reply(202, location=f"{self.url}{place}{session}?state=2", range=f"0-{len(there) - 1}")
        if exchange.method == "GET":
            return exchange.reply(204, location=f"{place}{session}?state=3", range=f"0-{max(len(there) - 1, 0)}")
        del self.sessions[session]
        if exchange.method == "DELETE":
            return exchange.reply(204)
        data = bytes(there) + exchange.read()
        if digest_of(data) != exchange.query["digest"]:
            return error(exchange, 400, "DIGEST_INVALID")
        self.blobs[digest_of(data)] = data
        return exchange.reply(201, location=f"/v2/{name}/blobs/{digest_of(data)}")


def error(exchange: Exchange, status: int, code: str) -> object:
    return exchange.reply(status, json.dumps({"errors": [{"code": code, "message": "no"}]}).encode())


def listing(exchange: Exchange, entries: list[dict[str, Any]], **headers: str) -> object:
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    return exchange.reply(200, body, content_type=INDEX, **headers)


@contextmanager
def served(service: OciService) -> Iterator[OciService]:
    """The service on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            exchange = Exchange(self)
            service.serve(exchange)
            if exchange.left:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        serving.start()
        try:
            yield service
        finally:
            server.shutdown()
            serving.join()
