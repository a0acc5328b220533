"""One HTTP exchange with limits, and the patience between two of them.

Redirects are followed for reading only, a few times, to https (or to this machine from it), and never with credentials
beyond the registry that they are for. Answers are bounded: their headers by the HTTP library (100 KiB), their bodies by
the caller, their time by a deadline. Compressed answers are refused. Proxies: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`;
certificates: `SSL_CERT_FILE`, or else the system's roots.

Knows: sizes, times, redirects. Does not know: registries. Not covered: HTTP/2, client certificates.
"""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar
from urllib.parse import urlencode

import httpx2

from strongroom.errors import SealBroken, ServiceUnavailable
from strongroom.sealed.registries.oci.address import is_loopback

MAX_REDIRECTS = 5
MAX_LOCATION_BYTES = 8192
DEADLINE = 60.0
LEAST_SPEED = 32 * 1024
"""Bytes a second; a peer that is slower for long is as good as none."""

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_READING = frozenset({"GET", "HEAD"})
_WAITS = 10.0, 30.0
_POOL = httpx2.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=15.0)
_DIGITS = 12
_random = secrets.SystemRandom()

T = TypeVar("T")

Authorise = Callable[[str], str | None]
"""Given the address of a request: the Authorization header that may go there, or None."""

Target = Callable[[int, httpx2.Headers], memoryview | None]
"""Given status and headers of an answer: where its body goes, which then has that length; None for a short body."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often to try, and how long to wait between (seconds): `first`, then twice as long each time, to `longest`."""

    attempts: int = 5
    first: float = 0.5
    longest: float = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, and the address it came from after redirects. `body` is empty where a target took it."""

    status: int
    headers: httpx2.Headers
    body: bytes
    url: str


class Trouble(Exception):
    """Something that may be over soon; `after` is how long the server wants us to wait (seconds), where it says."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.after = reason, after


class Patience:
    """What is left of it for one piece of work with one peer."""

    def __init__(self, peer: str, backoff: Backoff, sleep: Callable[[float], None]) -> None:
        self._peer, self._backoff, self._sleep = peer, backoff, sleep
        self._attempt = 0

    def wait(self, trouble: Trouble, where: str = "") -> None:
        """Wait before the next attempt. Raises `ServiceUnavailable` where there is none, or a wait would be too long."""
        self._attempt += 1
        if self._attempt >= self._backoff.attempts or (trouble.after or 0.0) > self._backoff.longest:
            raise ServiceUnavailable(
                f"{self._peer} {trouble.reason}, {self._attempt} times in a row",
                remedy="Check the registry's name, HTTPS_PROXY and the network, then start again.",
                detail=where,
            ) from None
        doubled = min(self._backoff.first * float(1 << (self._attempt - 1)), self._backoff.longest)
        self._sleep(max(trouble.after or 0.0, doubled * (1 - _random.random() / 2)))


class Http:
    """Exchanges; may be shared by threads. `sleep` and `clock` are arguments of the tests."""

    def __init__(
        self,
        *,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        timeouts: tuple[float, float] = _WAITS,
        deadline: float = DEADLINE,
    ) -> None:
        self._backoff, self._sleep, self.clock, self._deadline = backoff or Backoff(), sleep, clock, deadline
        self._timeouts = timeouts
        self._outside, self._here = _made(trust_env=True), _made(trust_env=False)

    def patience(self, peer: str) -> Patience:
        return Patience(peer, self._backoff, self._sleep)

    def patiently(self, peer: str, act: Callable[[], T], where: str = "") -> T:
        """`act`, again after each `Trouble`, until it succeeds or patience ends. Raises `ServiceUnavailable`."""
        patience = self.patience(peer)
        while True:
            try:
                return act()
            except Trouble as trouble:
                patience.wait(trouble, where)

    def once(
        self,
        method: str,
        url: str,
        *,
        limit: int,
        authorise: Authorise,
        headers: Mapping[str, str] | None = None,
        content: bytes | memoryview = b"",
        target: Target | None = None,
        wait: float | None = None,
    ) -> Answer:
        """One exchange, redirects followed where they may be. A body is at most `limit` bytes, or fills its target.

        `wait` is how long an answer may take to begin (seconds), where that is longer than usual.

        Raises `Trouble` for what may be tried again, `ServiceUnavailable` for what is not HTTP or leads astray.
        """
        for _ in range(MAX_REDIRECTS + 1):
            request = self._request(method, url, authorise(url), headers or {}, content, wait)
            answer = self._exchange(request, url, limit, target)
            if answer.status not in _REDIRECTS or method not in _READING:
                return answer
            url = follow(answer)
        raise ServiceUnavailable(f"{host_of(url)} redirects again and again")

    def _request(
        self,
        method: str,
        url: str,
        authorization: str | None,
        headers: Mapping[str, str],
        content: bytes | memoryview,
        wait: float | None,
    ) -> httpx2.Request:
        allowed = {} if authorization is None else {"authorization": authorization}
        connect, step = self._timeouts
        timeout = httpx2.Timeout(max(step, wait or 0.0), connect=connect)
        return self._client(url).build_request(
            method, url, headers={**headers, **allowed}, content=bytes(content), timeout=timeout
        )

    def _exchange(self, request: httpx2.Request, url: str, limit: int, target: Target | None) -> Answer:
        host = host_of(url)
        try:
            with closing(self._client(url).send(request, stream=True)) as response:
                status = response.status_code
                if status in BUSY:
                    raise Trouble(f"answered {status}", retry_after(response.headers))
                if request.method == "HEAD" or status in _REDIRECTS:
                    return Answer(status, response.headers, b"", url)
                if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
                    raise ServiceUnavailable(f"{host} sent a compressed body, which was not asked for")
                buffer = target(status, response.headers) if target is not None else None
                body = self._body(response, host, limit) if buffer is None else self._fill(response, buffer)
                return Answer(status, response.headers, body, url)
        except httpx2.TimeoutException:
            raise Trouble("did not answer in time") from None
        except httpx2.TransportError as error:
            if _untrusted(error):
                raise ServiceUnavailable(
                    f"{host} has a certificate that nobody here vouches for",
                    remedy="Name the authority's certificate in SSL_CERT_FILE, if you trust it.",
                ) from None
            raise Trouble(f"cannot be reached ({type(error).__name__})") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, UnicodeError):
            raise ServiceUnavailable(f"{host} does not speak HTTP as it should") from None

    def _body(self, response: httpx2.Response, host: str, limit: int) -> bytes:
        body, end = bytearray(), self.clock() + self._deadline
        for piece in response.iter_raw():
            body += piece
            if len(body) > limit:
                raise ServiceUnavailable(f"{host} sent more than {limit} bytes where fewer are possible")
            if self.clock() > end:
                raise Trouble("was too slow")
        return bytes(body)

    def _fill(self, response: httpx2.Response, buffer: memoryview) -> bytes:
        at, end = 0, self.clock() + self._deadline + len(buffer) / LEAST_SPEED
        for piece in response.iter_raw():
            if len(piece) > len(buffer) - at:
                raise SealBroken("a registry sent more bytes than it announced")
            buffer[at : at + len(piece)] = piece
            at += len(piece)
            if self.clock() > end:
                raise Trouble("was too slow")
        if at != len(buffer):
            raise Trouble("sent fewer bytes than it announced")
        return b""

    def close(self) -> None:
        """Close the connections."""
        self._outside.close()
        self._here.close()

    def _client(self, url: str) -> httpx2.Client:
        """What is for this machine goes past every proxy."""
        return self._here if is_loopback(httpx2.URL(url).host) else self._outside


def _made(*, trust_env: bool) -> httpx2.Client:
    return httpx2.Client(
        limits=_POOL,
        trust_env=trust_env,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"user-agent": "strongroom", "accept-encoding": "identity"},
    )


def follow(answer: Answer) -> str:
    """Where the Location header of an answer leads, absolute. Raises `ServiceUnavailable` where nobody should go."""
    base, stated = httpx2.URL(answer.url), answer.headers.get("location", "")
    try:
        target = base.join(stated) if 0 < len(stated) <= MAX_LOCATION_BYTES else None
    except (httpx2.InvalidURL, ValueError):
        target = None
    if target is None or not target.host or target.userinfo:
        raise ServiceUnavailable(f"{base.host} did not say where to go on", detail="Location")
    near = base.scheme == "http" and (same_origin(str(target), answer.url) or is_loopback(target.host))
    if target.scheme != "https" and not (target.scheme == "http" and near):
        raise ServiceUnavailable(f"{base.host} leads to a place without TLS, where nothing is sent", detail="Location")
    return str(target.copy_with(fragment=None))


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses are of one scheme, host and port."""
    return _origin(one) == _origin(other)


def with_query(url: str, **parameters: str) -> str:
    """`url` with more parameters behind its own, which stay as they are written: somebody may have signed them."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"


def host_of(url: str) -> str:
    """Host and port of an address, for sentences."""
    return httpx2.URL(url).netloc.decode("ascii", "replace")


def _origin(url: str) -> tuple[str, str, int]:
    place = httpx2.URL(url)
    return place.scheme, place.host, place.port or (443 if place.scheme == "https" else 80)


def _untrusted(error: BaseException | None) -> bool:
    """Whether a certificate was the reason; then there is no use in asking again."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds that the server asks for. A date is taken relative to the server's own, so that no clock is needed."""
    stated = headers.get("retry-after", "").strip()
    if stated.isascii() and stated.isdigit():
        return float(stated[:_DIGITS])
    try:
        then, now = parsedate_to_datetime(stated), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
