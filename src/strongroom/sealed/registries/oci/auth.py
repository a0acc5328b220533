"""Being let in: none, Basic, or a Bearer token of the registry's own token service.

Specification: RFC 7617; distribution's token and OAuth2 specifications (docs/spec/auth). A registry names its token
service itself, so its credentials go to the registry and to that service and nowhere else: not to where it redirects,
and not in the clear unless the registry itself is spoken to so. Tokens are kept until they end, in memory alone.

Knows: challenges, credentials, tokens. Does not know: blobs. Not covered: OAuth2 with a password, client certificates.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx2

from strongroom.errors import MalformedRecord, NotAuthorised, ServiceUnavailable, StrongroomError
from strongroom.records import codec
from strongroom.sealed.registries.oci.address import Address, is_loopback
from strongroom.sealed.registries.oci.challenge import MAX_HEADER_BYTES, Challenge, parse_challenges
from strongroom.sealed.registries.oci.credentials import Credentials
from strongroom.sealed.registries.oci.transport import Answer, Http, host_of, same_origin, with_query

MAX_ANSWER_BYTES = 256 * 1024
MAX_TOKEN_BYTES = 32 * 1024
_LEAST_SECONDS, _MOST_SECONDS, _EARLY = 60, 3600, 10
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/=-]{{1,{MAX_TOKEN_BYTES}}}")
_MAX_REALM = 2048
_OK, _UNAUTHORISED, _FORBIDDEN = 200, 401, 403

Find = Callable[[], Credentials | None]
"""Looks up what somebody logged in with; asked once, and only when a registry wants to know."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """An Authorization header, until when (by the clock of `Http`)."""

    header: str
    until: float


class Authoriser:
    """What one registry wants to hear before it gives or takes something of one repository; shared by threads.

    `scope` of a request is `pull` or `pull,push`.
    """

    def __init__(self, address: Address, http: Http, find: Find) -> None:
        self._address, self._http, self._find = address, http, find
        self._passes: dict[str, _Pass] = {}
        self._lock = threading.Lock()
        self._looked = False
        self._credentials: Credentials | None = None

    def header_for(self, scope: str) -> Callable[[str], str | None]:
        """The Authorization header for each address on the way: only this registry's own gets one."""
        with self._lock:
            held = self._passes.get(scope)
        header = held.header if held is not None and held.until > self._http.clock() else None
        return lambda url: header if self.is_own(url) else None

    def is_own(self, url: str) -> bool:
        """Whether an address is the registry's own, where its credentials may go."""
        return same_origin(url, self._address.origin)

    def answer(self, refused: Answer, scope: str, used: str | None) -> None:
        """Obtain what the challenge of a 401 asks for. Raises `NotAuthorised` where we cannot; `used` was no good."""
        with self._lock:
            held = self._passes.get(scope)
            if held is not None and held.header != used and held.until > self._http.clock():
                return  # another thread was quicker
            self._passes[scope] = self._obtain(refused, scope)

    def refusal(self, refused: Answer) -> StrongroomError:
        """The error for an answer that says no."""
        if not self.is_own(refused.url):
            return ServiceUnavailable(f"{host_of(refused.url)}, where {self._address.place} redirects, refuses us")
        known = "with other credentials, which may do this" if self._credentials else "first"
        return NotAuthorised(
            f"{self._address.place} does not let us do this with {self._address.name}",
            remedy=f"Log in {known}: docker login {self._address.place} (or podman, or skopeo); check the name.",
        )

    def _obtain(self, refused: Answer, scope: str) -> _Pass:
        found = {c.scheme: c for c in reversed(parse_challenges(", ".join(_stated(refused))))}
        if not self._looked:
            self._credentials, self._looked = self._find(), True
        if "bearer" in found:
            return self._token(found["bearer"], scope, refused)
        known = self._credentials
        if "basic" in found and known is not None and known.user:
            return _Pass(_basic(known), float("inf"))
        raise self.refusal(refused)

    def _token(self, challenge: Challenge, scope: str, refused: Answer) -> _Pass:
        realm = self._checked_realm(challenge.parameters.get("realm", ""))
        own = f"repository:{self._address.name}:"
        stated = challenge.parameters.get("scope", "")
        asked = {"scope": stated if stated.startswith(own) and " " not in stated else own + scope}
        if service := challenge.parameters.get("service"):
            asked["service"] = service
        known = self._credentials
        began = self._http.clock()
        answer = self._http.patiently(host_of(realm), lambda: self._ask(realm, asked, known), "the token service")
        if answer.status in {_UNAUTHORISED, _FORBIDDEN}:
            raise self.refusal(refused)
        if answer.status != _OK:
            raise ServiceUnavailable(f"the token service {host_of(realm)} answered {answer.status}")
        token, seconds = _read_token(answer.body)
        return _Pass(f"Bearer {token}", began + seconds - _EARLY)

    def _ask(self, realm: str, asked: dict[str, str], known: Credentials | None) -> Answer:
        if known is not None and known.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": known.identity_token, "client_id": "strongroom"}
            return self._http.once(
                "POST",
                realm,
                limit=MAX_ANSWER_BYTES,
                authorise=lambda _: None,
                headers={"content-type": "application/x-www-form-urlencoded"},
                content=urlencode({**form, **asked}).encode(),
            )
        header = _basic(known) if known is not None else None
        url = with_query(realm, **asked)
        return self._http.once("GET", url, limit=MAX_ANSWER_BYTES, authorise=_only_to(realm, header))

    def _checked_realm(self, realm: str) -> str:
        try:
            place = httpx2.URL(realm) if len(realm) <= _MAX_REALM else None
        except (httpx2.InvalidURL, ValueError):
            place = None
        plain = place is not None and place.scheme == "http" and self._address.plain
        near = plain and place is not None and (is_loopback(place.host) or same_origin(realm, self._address.origin))
        if place is None or not place.host or place.userinfo or place.fragment or not (place.scheme == "https" or near):
            raise ServiceUnavailable(
                f"{self._address.place} names a token service that no credentials are sent to",
                remedy="Its address has to be https. Ask who runs the registry.",
            )
        return realm


def _only_to(realm: str, header: str | None) -> Callable[[str], str | None]:
    return lambda url: header if same_origin(url, realm) else None


def _stated(refused: Answer) -> list[str]:
    stated = refused.headers.get_list("www-authenticate")
    if sum(len(text) for text in stated) > MAX_HEADER_BYTES:
        raise ServiceUnavailable("a registry asks for credentials with too many words")
    return stated


def _basic(known: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{known.user}:{known.password}".encode()).decode("ascii")


def _read_token(body: bytes) -> tuple[str, int]:
    """The token in an answer, and for how many seconds it holds. Raises `ServiceUnavailable`."""
    try:
        value = codec.parse_json(body, limit=MAX_ANSWER_BYTES)
    except MalformedRecord:
        value = None
    if isinstance(value, dict):
        token, seconds = value.get("token") or value.get("access_token"), value.get("expires_in", _LEAST_SECONDS)
        if isinstance(token, str) and _TOKEN.fullmatch(token) and isinstance(seconds, int):
            return token, min(max(seconds, _LEAST_SECONDS), _MOST_SECONDS)
    raise ServiceUnavailable("a registry's token service answered with something that is no token")
