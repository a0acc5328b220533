"""How a buyer reaches an issuer of credits.

Knows: HTTP, the two paths. Does not know: wallets, blinding. The account's secret travels in a header: use TLS, or loopback.
"""

from __future__ import annotations

import httpx2
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from strongroom.channel.away import why
from strongroom.crypto import blind_rsa
from strongroom.errors import MalformedMessage, ServiceUnavailable
from strongroom.records import codec
from strongroom.records.credit import CREDITS_PATH, KEY_PATH, CreditAnswer, CreditKey, CreditRequest
from strongroom.release.problem import from_problem

MAX_ANSWER = 256 * 1024
_TIMEOUT = httpx2.Timeout(10.0, read=120.0)


class IssuerClient:
    """The issuer at `url`, for one account's `secret`. `transport` replaces the network in tests."""

    def __init__(self, url: str, secret: str, *, transport: httpx2.BaseTransport | None = None) -> None:
        self._url, self._secret = url.rstrip("/"), secret
        self._http = httpx2.Client(transport=transport, timeout=_TIMEOUT)
        self._key: bytes | None = None

    def key(self) -> bytes:
        """The issuer's public key as it shows it (SubjectPublicKeyInfo, DER). Compare its digest with the one you know."""
        if self._key is None:
            self._key = codec.decode(CreditKey, self._ask("GET", KEY_PATH)).key
        return self._key

    def public_key(self) -> RSAPublicKey:
        """The same as a key. Raises `MalformedMessage` for one that credits are not signed with."""
        return blind_rsa.public_from_der(self.key())

    def issue(self, request: CreditRequest) -> CreditAnswer:
        """Have blinded credits signed. Raises what the issuer refuses with."""
        return codec.decode(CreditAnswer, self._ask("POST", CREDITS_PATH, codec.encode(request)))

    def _ask(self, method: str, path: str, content: bytes | None = None) -> bytes:
        headers = {"authorization": f"Bearer {self._secret}"} if content is not None else {}
        body = bytearray()
        try:
            with self._http.stream(method, self._url + path, content=content, headers=headers) as answer:
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER:
                        raise MalformedMessage(f"an issuer's answer of more than {MAX_ANSWER} bytes")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ServiceUnavailable(f"the issuer does not answer ({why(error)})") from None
        if answer.status_code != httpx2.codes.OK:
            raise from_problem(bytes(body), answer.status_code)
        return bytes(body)
