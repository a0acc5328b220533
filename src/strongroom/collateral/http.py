"""GET with limits: the one way in which collateral comes in.

Knows: sizes, times, retries, rate limits, proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`; `SSL_CERT_FILE` for a
proxy's own CA). Does not know: any vendor. What comes is not believed: a signature decides later. Redirects are not
followed, cookies not kept, compressed bodies refused, because a small body could unpack into a large one.

A server that asks for time (429 or 503 with Retry-After, RFC 9110 section 10.2.3) gets it, if it asks for no more than
`Backoff.longest`; if for more, nobody asks it again before that time. Not covered: asynchronous callers.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2

from strongroom.errors import MalformedEvidence, ServiceUnavailable, UsageError

TIMEOUT = 10.0
DEADLINE = 30.0
MAX_QUIET = 3600.0
_OK, _REDIRECT, _CLIENT_ERROR = 200, 300, 400
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGES = ("text/html", "application/xhtml", "application/xml", "text/xml")
_DIGITS = 12
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often to ask, and how long to wait between (seconds): `first`, then twice as long each time, up to `longest`.

    Each wait is shortened by up to a half at random, so that many who were refused at once do not return at once.
    """

    attempts: int = 4
    first: float = 1.0
    longest: float = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole body, and the headers it came with."""

    headers: httpx2.Headers
    body: bytes


class _Again(Exception):
    """The reason to ask again, and how long the server wants us to wait, where it says so (seconds)."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.after = reason, after


class Http:
    """Gets bodies. May be shared by threads. `timeout` bounds each step of a request, `deadline` the whole of it."""

    def __init__(
        self,
        *,
        transport: httpx2.BaseTransport | None = None,
        timeout: float = TIMEOUT,
        deadline: float = DEADLINE,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._backoff, self._deadline, self._sleep = backoff or Backoff(), deadline, sleep
        self._quiet: dict[str, float] = {}
        self._lock = threading.Lock()
        self._client = httpx2.Client(
            transport=transport,
            timeout=timeout,
            trust_env=True,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"user-agent": "strongroom", "accept": "*/*", "accept-encoding": "identity"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, url: str, *, limit: int, content_type: str | None = None) -> Answer:
        """The body at `url`, up to `limit` bytes, of `content_type` where one is named.

        Raises `ServiceUnavailable` where it cannot be had now, and `MalformedEvidence` for one that is too long or of
        another type.
        """
        host = place_of(url).netloc.decode("ascii")
        attempt = 1
        while True:
            self._mind(host)
            try:
                return self._once(url, host, limit, content_type)
            except _Again as again:
                wait = self._wait(host, again, attempt)
            self._sleep(wait)
            attempt += 1

    def _mind(self, host: str) -> None:
        """Raises `ServiceUnavailable` where `host` asked to be left alone for longer than we wait."""
        with self._lock:
            left = self._quiet.get(host, 0.0) - time.monotonic()
        if left > 0:
            raise ServiceUnavailable(
                f"{host} takes no requests for another {left:.0f} s", remedy="Wait as long, or name a cache of its own."
            )

    def _wait(self, host: str, again: _Again, attempt: int) -> float:
        """How long to wait before the next attempt. Raises `ServiceUnavailable` where there is none."""
        if again.after is not None and again.after > self._backoff.longest:
            with self._lock:
                self._quiet[host] = time.monotonic() + min(again.after, MAX_QUIET)
            self._mind(host)
        if attempt >= self._backoff.attempts:
            raise ServiceUnavailable(
                f"{host} {again.reason}, {attempt} times in a row",
                remedy="Try again later; check the address and HTTPS_PROXY.",
            ) from None
        doubled = min(self._backoff.first * float(1 << (attempt - 1)), self._backoff.longest)
        return max(again.after or 0.0, doubled * (1 - _random.random() / 2))

    def _once(self, url: str, host: str, limit: int, content_type: str | None) -> Answer:
        end = time.monotonic() + self._deadline
        try:
            with self._client.stream("GET", url) as response:
                _check_status(response, host)
                _check_headers(response, host, limit, content_type)
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > limit:
                        raise MalformedEvidence(f"{host} sent more than {limit} bytes")
                    if time.monotonic() > end:
                        raise _Again("was too slow")
                return Answer(response.headers, bytes(body))
        except httpx2.TimeoutException:
            raise _Again("did not answer in time") from None
        except httpx2.TransportError as error:
            raise _Again(f"cannot be reached ({type(error).__name__})") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, UnicodeError):
            raise ServiceUnavailable(f"{host} does not speak HTTP as it should") from None


def place_of(url: str) -> httpx2.URL:
    """A checked address: http or https, with a host, without a user. Raises `UsageError`."""
    try:
        place = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError, ValueError):
        raise UsageError("this is not an address", remedy="Write https://HOST.") from None
    if place.scheme not in {"http", "https"} or not place.host or place.userinfo:
        raise UsageError("this is not the address of a place for collateral", remedy="Write https://HOST.")
    return place


def base_of(url: str) -> str:
    """An address that paths are appended to. Raises `UsageError`; also for one with a query or a fragment."""
    place = place_of(url)
    if place.query or place.fragment:
        raise UsageError("the address of a place for collateral ends with its path", remedy="Write https://HOST.")
    return str(place).rstrip("/")


def _check_status(response: httpx2.Response, host: str) -> None:
    status = response.status_code
    if status in _BUSY:
        raise _Again(f"answered {status}", _retry_after(response.headers))
    if _REDIRECT <= status < _CLIENT_ERROR:
        raise ServiceUnavailable(
            f"{host} answered with a redirect, which is not followed", remedy="Name the place itself, if you trust it."
        )
    if status != _OK:
        raise ServiceUnavailable(
            f"{host} does not have this ({status})", remedy="Check that the vendor knows this platform."
        )


def _check_headers(response: httpx2.Response, host: str, limit: int, content_type: str | None) -> None:
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise MalformedEvidence(f"{host} sent a compressed body, which was not asked for")
    declared = response.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or int(declared[:_DIGITS]) > limit:
        raise MalformedEvidence(f"{host} announced more than {limit} bytes")
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type is not None and found != content_type:
        raise MalformedEvidence(f"{host} sent something that is not {content_type}")
    if content_type is None and found.startswith(_PAGES):
        raise MalformedEvidence(f"{host} sent a page")


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds that the server asks for. A date is taken relative to the server's own, so that no clock is needed."""
    stated = headers.get("retry-after", "").strip()
    if stated.isascii() and stated.isdigit():
        return float(stated[:_DIGITS])
    try:
        then, now = parsedate_to_datetime(stated), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
